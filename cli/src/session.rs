//! The options that every command shares which lets a workload live: `record`, `test` and `learn`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use profiler::{CaptureArgument, CaptureCall, CapturePlan, Choice, Descriptor, drive::Plan};
use synth::arguments;
use trace::{Abi, Kept};

use crate::folder;

/// How the workload is started, driven and stopped. Commands are run by `/bin/sh -c`, outside of what is
/// recorded or confined.
#[derive(Args, Clone, Debug)]
pub(crate) struct Life {
    /// Poll this command until it succeeds: then start-up is over and serving begins
    #[arg(long, value_name = "CMD")]
    pub(crate) ready: Option<String>,

    /// How long `--ready` may take
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    pub(crate) ready_timeout: Duration,

    /// Drive the workload with this command; when it ends the workload gets SIGTERM
    #[arg(long, value_name = "CMD")]
    pub(crate) exercise: Option<String>,

    /// How long daemons that outlive the command may go on before they get SIGTERM
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(crate) grace: Duration,

    /// How long the workload may take to end on SIGTERM before it gets SIGKILL
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub(crate) stop_timeout: Duration,
}

impl Life {
    /// What the command line does not say, a folder's `workload.toml` may.
    pub(crate) fn or_stored(&mut self, stored: &folder::Life) {
        self.ready = self.ready.take().or_else(|| stored.ready.clone());
        self.exercise = self.exercise.take().or_else(|| stored.exercise.clone());
    }

    /// The plan, with what only some commands have.
    pub(crate) fn plan(&self, health: Option<String>, duration: Option<Duration>) -> Plan {
        Plan {
            ready: self.ready.clone(),
            ready_timeout: self.ready_timeout,
            exercise: self.exercise.clone(),
            health,
            duration,
            grace: self.grace,
            stop_timeout: self.stop_timeout,
        }
    }
}

/// `--backend`.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Backend {
    /// The first that works, and say which
    #[default]
    Auto,
    /// BPF on the kernel's syscall tracepoints: needs root, or CAP_BPF, CAP_PERFMON and a writable cgroup
    Ebpf,
    /// Seccomp user notification: needs no privilege; slows the workload down, interrupts some calls with EINTR, sees no
    /// outcomes, and the workload ends if the recorder is killed
    Notify,
}

impl From<Backend> for Choice {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => Self::Auto,
            Backend::Ebpf => Self::Ebpf,
            Backend::Notify => Self::Notify,
        }
    }
}

/// What a recording keeps of arguments: of every ABI of this machine what a rule or a finding can use.
pub(crate) fn capture() -> CapturePlan {
    let (_, machine) = profiler::host::kernel();
    let abis: &[Abi] = match Abi::native_of(&machine) {
        Some(Abi::X86_64) => &[Abi::X86_64, Abi::I386, Abi::X32],
        _ => &[Abi::Aarch64, Abi::Arm],
    };
    let calls = abis.iter().flat_map(|abi| arguments::captured(*abi).map(|call| capture_call(*abi, call)));
    CapturePlan { calls: calls.collect(), opens: true }
}

fn capture_call(abi: Abi, call: arguments::Captured) -> CaptureCall {
    let argument = |argument: &arguments::Argument| CaptureArgument {
        kept: Kept {
            index: argument.index,
            offset: argument.offset,
            name: argument.name.clone(),
            mask: argument.mask,
        },
        width: argument.width,
    };
    CaptureCall {
        abi,
        number: call.number,
        arguments: call.arguments.into_iter().map(argument).collect(),
        descriptor: call
            .descriptor
            .map(|arguments::Descriptor { index, unless }| Descriptor { index, unless }),
    }
}

/// A time such as `90s`, `5m`, `1h 30m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write `90s`, `5m` or `1h`"))
}
