//! From what was observed and what the engine says to a trace.

use std::time::Duration;

use engine::{Container, Seccomp};
use serde_json::Value;
use trace::{
    Attached, Backend, Phase, Recorder as About, Startup, Target, TargetKind, Trace, mask_arguments,
};

use super::follow::Following;
use crate::{ebpf::ContainerObservations, host, session::milliseconds};

/// What is known of a run beside its calls.
pub(super) struct Run<'a> {
    /// The engine with its version.
    pub(super) engine: &'a str,
    pub(super) container: &'a Container,
    pub(super) following: &'a Following,
    pub(super) elapsed: Duration,
    pub(super) exit_code: Option<i32>,
    /// Under the profile that refuses nothing.
    pub(super) observed: bool,
}

/// The trace of a run.
pub(super) fn trace(tool: &str, run: &Run<'_>, observed: ContainerObservations) -> Trace {
    let (kernel, arch) = host::kernel();
    let about = About {
        tool: tool.to_owned(),
        backend: Backend::Ebpf,
        kernel,
        arch,
        started: run.following.started.clone(),
        duration_ms: milliseconds(run.elapsed),
        perturbations: observed.observations.perturbations,
    };
    let mut trace = Trace::new(about, target(run, attached(run, observed.first_exec_ns, observed.armed_ns)));
    trace.complete = true;
    trace.confined = observed.observations.confined && !run.observed;
    trace.startup = if run.following.late { Startup::NotRecorded } else { Startup::Recorded };
    trace.losses = observed.observations.losses;
    let phases = run.following.phases.iter();
    trace.phases = phases.map(|(name, at)| Phase { name: *name, from_ms: milliseconds(*at) }).collect();
    trace.target.gpu = observed.observations.gpu;
    trace.syscalls = observed.observations.rows;
    (trace.opens, trace.opens_beyond) = (observed.observations.opens, observed.observations.opens_beyond);
    trace.runtime = observed.runtime;
    trace.exec = observed.exec;
    trace
}

fn attached(run: &Run<'_>, first_exec_ns: Option<u64>, armed_ns: u64) -> Attached {
    let before = first_exec_ns.filter(|_| !run.following.late);
    Attached { before_first_exec_ms: before.map(|exec| exec.saturating_sub(armed_ns) / 1_000_000) }
}

fn target(run: &Run<'_>, attached: Attached) -> Target {
    let container = run.container;
    Target {
        command: mask_arguments(&container.command),
        cgroup: Some(run.following.path.clone()),
        exit_code: run.exit_code,
        image: container.image_digest,
        runtime: container.runtime_with_version(),
        gpu_driver: host::gpu_driver(),
        container: Some(trace::Container {
            engine: run.engine.to_owned(),
            id: container.id.clone(),
            name: Some(container.name.clone()).filter(|name| *name != container.id),
            image: container.image_name.clone(),
            labels: container.labels.clone(),
            kind: container.kind,
            pod: container.pod.clone(),
            restart: container.restart,
            seccomp: Some(if run.observed {
                trace::Container::OBSERVE.to_owned()
            } else {
                container.seccomp.describe().to_owned()
            }),
            no_new_privileges: container.no_new_privileges,
            user: container.user.clone(),
            attached,
        }),
        ..Target::new(TargetKind::Container)
    }
}

/// Whether the container runs under this profile. Engines write a profile anew: in another order of the keys, with
/// empty lists or without.
pub(super) fn runs_under(container: &Container, profile: &str) -> bool {
    match &container.seccomp {
        Seccomp::Inline(text) => is_same(text, profile),
        Seccomp::Profile(path) => std::fs::read_to_string(path).is_ok_and(|text| is_same(&text, profile)),
        Seccomp::Unconfined | Seccomp::Default => false,
    }
}

fn is_same(one: &str, other: &str) -> bool {
    let parse = |text: &str| serde_json::from_str(text).ok().map(bare);
    parse(one).is_some_and(|one| Some(one) == parse(other))
}

/// Without what says nothing.
fn bare(value: Value) -> Value {
    let says_something = |value: &Value| match value {
        Value::Null => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    };
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(bare).collect()),
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, bare(value)));
            Value::Object(fields.filter(|(_, value)| says_something(value)).collect())
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::is_same;

    #[test]
    fn a_profile_is_known_however_an_engine_writes_it() {
        let ours = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"names":["nfsservctl"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
        for same in [
            r#"{"syscalls":[{"action":"SCMP_ACT_ERRNO","args":[],"errnoRet":38,"names":["nfsservctl"]}],
                "flags":null,"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"]}"#,
            ours,
        ] {
            assert!(is_same(same, ours), "{same}");
        }
        for other in ["", "{}", &ours.replace("nfsservctl", "read"), &ours.replace("ALLOW", "ERRNO")] {
            assert!(!is_same(other, ours), "{other}");
        }
    }
}
