//! `seccomp-learn`: learns the smallest seccomp profile that still runs a workload, and proves it.

use std::process::ExitCode;

fn main() -> ExitCode {
    seccomp_learn_cli::main()
}
