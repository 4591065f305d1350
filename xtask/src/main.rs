//! Project commands: `cargo xtask <command>`.

mod bench;
mod demo;
mod lab;
mod lint;
mod matrix;
mod process;
mod setup;
mod test;
#[path = "../../agent/build/toolchain.rs"]
mod toolchain;

use std::process::ExitCode;

use clap::Parser;

/// Project commands of Underpass.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Install what building and testing need and this machine lacks; a no-op when nothing does.
    Setup,
    /// Check formatting and clippy (warnings denied), for the host and for the eBPF programs.
    Lint,
    /// Build everything and run every test.
    Test(test::Args),
    /// Run the interop matrix against every routing daemon and renew the tables in docs/interop.md.
    Matrix,
    /// The reference lab in network namespaces: `up`, `down`, `status`, `exec NS -- CMD`.
    Lab(lab::Args),
    /// Raise the reference lab, show the chain from UPDATE to forwarded packet, take it down.
    Demo(demo::Args),
    /// Run a benchmark: prints a table, writes JSON.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Setup => setup::run(),
        Command::Lint => lint::run(),
        Command::Test(args) => test::run(&args),
        Command::Matrix => matrix::run(),
        Command::Lab(args) => lab::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::Command;

    #[test]
    fn arguments_are_passed_on_unchanged() {
        let cases: &[&[&str]] = &[
            &["test"],
            &["test", "-p", "underpass-tests", "--test", "lab"],
            &["test", "-p", "underpass", "--", "--nocapture"],
            &["test", "--", "--nocapture"],
            &["lab", "up", "--name", "other", "--no-agents"],
            &["lab", "exec", "node1", "--", "ip", "-d", "link"],
            &["demo", "--json", "--keep"],
            &["bench", "forward", "--json", "out.json", "--quick"],
        ];
        for case in cases {
            let command = Command::try_parse_from(std::iter::once(&"cargo xtask").chain(*case));
            let rest = match command.unwrap_or_else(|error| panic!("{case:?}: {error}")) {
                Command::Test(args) => args.rest(),
                Command::Lab(args) => args.rest,
                Command::Demo(args) => args.rest,
                Command::Bench(args) => args.rest,
                other => panic!("{case:?} became {other:?}"),
            };
            assert_eq!(rest, case[1..], "{case:?}");
        }
    }
}
