//! The program: see `hzel::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hzel::cli::main()
}
