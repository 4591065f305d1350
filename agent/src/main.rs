//! The `underpass` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    underpass::cli::main()
}
