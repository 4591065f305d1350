//! The `underpass` program; everything is in the library.

use std::process::ExitCode;

/// A table of a million routes is many small pieces, which come and go by the thousand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    underpass::cli::main()
}
