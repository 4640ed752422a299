//! Whether a profile can be used on this host as it was meant: the kernel takes it, the runtime's libseccomp knows
//! what it allows, and the host is the one that its evidence is about.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use confine::{Filter, Launch, LoadFlags, SpawnError};
use synth::{CompileOptions, Evidence, Flag, Profile};
use trace::Abi;

use super::host::{Library, RUNTIMES, Runtime, branch, series};
use crate::input::{self, Sidecar};

/// What the checks found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Why the profile does not do here what it says.
    pub(crate) refused: Vec<String>,
    /// Where this host is not the one that the evidence is about.
    pub(crate) mismatched: Vec<String>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// Checks everything that needs nobody else.
pub(crate) fn check(
    profile: &Profile,
    evidence: Option<&Evidence>,
    runtime: Option<&Path>,
) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let (release, machine) = profiler::host::kernel();
    let native = Abi::native_of(&machine)
        .with_context(|| format!("`{machine}` is no supported machine; use x86_64 or aarch64"))?;
    if let Some(evidence) = evidence
        && evidence.workload.native != native
    {
        findings.mismatched.push(format!(
            "it was learned on {}, and this machine is {native}; learn it anew on such a machine",
            evidence.workload.native
        ));
        // Its filter would judge by the wrong numbers: nothing more to be said about it here.
        return Ok(findings);
    }
    loads(profile, native)?;
    let runtimes = match runtime {
        Some(path) => vec![Runtime::given(path)?],
        None => RUNTIMES.iter().filter_map(|name| Runtime::find(name)).collect(),
    };
    library(profile, native, &runtimes, &mut findings)?;
    match evidence {
        None => findings.notes.push(
            "there is no evidence beside it: runtime, kernel and GPU driver were not compared with this host's"
                .to_owned(),
        ),
        Some(evidence) => {
            this_runtime(evidence, &runtimes, runtime.is_some(), &mut findings);
            this_kernel(evidence, &release, &mut findings);
            this_driver(evidence, &mut findings);
        }
    }
    Ok(findings)
}

/// Compiles the profile, and loads it into a process of its own, which then ends: the kernel's own answer.
fn loads(profile: &Profile, native: Abi) -> anyhow::Result<()> {
    let compiled = synth::compile(profile, native, CompileOptions::default())
        .context("this profile cannot be compiled, so no runtime could load it")?;
    let instructions = compiled.instructions.iter().map(|own| confine::Instruction {
        code: own.code,
        jt: own.jt,
        jf: own.jf,
        k: own.k,
    });
    let launch = Launch {
        // Nothing is to run: the filter is loaded before this cannot be executed.
        program: PathBuf::from("/dev/null"),
        arguments: vec![OsString::from("seccomp-learn")],
        filter: Filter::Enforce(instructions.collect()),
        flags: flags(profile),
        ..Launch::default()
    };
    let (mut child, _) = confine::spawn(launch)
        .and_then(confine::Gated::release)
        .context("cannot try whether the profile loads")?;
    match child.wait_exec() {
        // What execve, or the filter, answered: it is loaded.
        Ok(())
        | Err(
            SpawnError::Exec { .. }
            | SpawnError::EndedBeforeExec { .. }
            | SpawnError::NotFound(_)
            | SpawnError::NotAProgram(_)
            | SpawnError::NotExecutable(_),
        ) => Ok(()),
        Err(error @ SpawnError::Filter(_)) => Err(error).context("the kernel does not take this profile"),
        Err(error) => Err(error).context("cannot try whether the profile loads"),
    }
}

/// As runc and crun set them, which allow the speculation where the profile says nothing.
fn flags(profile: &Profile) -> LoadFlags {
    match &profile.flags {
        None => LoadFlags::default(),
        Some(flags) => {
            LoadFlags { spec_allow: flags.contains(&Flag::SpecAllow), log: flags.contains(&Flag::Log) }
        }
    }
}

/// Names that a runtime's libseccomp does not know are left out of the filter without a word.
fn library(
    profile: &Profile,
    native: Abi,
    runtimes: &[Runtime],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut libraries: Vec<(String, Library)> = Vec::new();
    for runtime in runtimes {
        let library =
            runtime.library().with_context(|| format!("cannot tell what {} knows", runtime.name))?;
        match libraries.iter_mut().find(|(_, known)| known.path == library.path) {
            Some((users, _)) => *users += &format!(" and {}", runtime.name),
            None => libraries.push((runtime.name.clone(), library)),
        }
    }
    if libraries.is_empty() {
        findings.notes.push(
            "neither runc nor crun is installed here: the names were checked against the host's libseccomp"
                .to_owned(),
        );
        libraries.push(("a runtime".to_owned(), Library::of_host()?));
    }
    // A call that no ABI of this filter has is left out for a good reason.
    let abis: Vec<Abi> = profile.architectures.iter().filter_map(|own| own.abi()).chain([native]).collect();
    let exists = |name: &str| abis.iter().any(|abi| abi.number(name).is_some());
    let allowed = profile.allowed();
    for (users, library) in libraries {
        let path = library.path.display();
        let lost: Vec<&str> =
            allowed.iter().copied().filter(|name| exists(name) && !library.knows(name)).collect();
        if !lost.is_empty() {
            findings.refused.push(format!(
                "{} would be refused although the profile allows {}: the libseccomp of {users} (`{path}`) does not know {}, and leaves out what it does not know; update libseccomp or the runtime, or make the profile without",
                quoted(&lost),
                if lost.len() == 1 { "it" } else { "them" },
                if lost.len() == 1 { "the name" } else { "the names" },
            ));
        }
        let others = profile.syscalls.iter().filter(|entry| !entry.action.executes());
        let others = others.flat_map(|entry| entry.names.iter().map(String::as_str));
        let mut silent: Vec<&str> =
            others.filter(|name| exists(name) && !library.knows(name) && !allowed.contains(name)).collect();
        silent.sort_unstable();
        silent.dedup();
        if !silent.is_empty() {
            findings.notes.push(format!(
                "{} will be answered as the profile's default says: the libseccomp of {users} (`{path}`) does not know {}",
                some(&silent),
                if silent.len() == 1 { "the name" } else { "the names" },
            ));
        }
    }
    Ok(())
}

/// The runtime that the profile was learned under, or made for.
fn this_runtime(evidence: &Evidence, runtimes: &[Runtime], chosen: bool, findings: &mut Findings) {
    let tables = &evidence.options.runtime;
    if tables.is_empty() {
        findings.mismatched.push(
            "it was made with `--runtime none` and cannot start a container; make it anew with `seccomp-learn synth --runtime auto`"
                .to_owned(),
        );
        return;
    }
    // `runc 1.1.5`; a table's name may go on after the version.
    let split = |text: &str| {
        let mut words = text.split_whitespace();
        Some((words.next()?.to_owned(), words.next().unwrap_or_default().to_owned()))
    };
    let recorded = evidence.workload.runtime.as_deref().and_then(split);
    let covered: Vec<(String, String)> = tables.iter().filter_map(|table| split(table)).collect();
    let wanted = |runtime: &Runtime| match &recorded {
        Some((name, _)) if !chosen => *name == runtime.name,
        _ => true,
    };
    if let Some((name, version)) = &recorded
        && !runtimes.iter().any(|runtime| runtime.name == *name)
    {
        findings.mismatched.push(format!(
            "it was learned under {name} {version}, and {}; install {name}, or learn it under the runtime that is used here",
            match runtimes {
                [] => format!("there is no {name} here"),
                others => format!(
                    "here is only {}",
                    others.iter().map(|own| own.path.display().to_string()).collect::<Vec<_>>().join(" and ")
                ),
            }
        ));
    }
    for runtime in runtimes.iter().filter(|runtime| wanted(runtime)) {
        let of_it: Vec<&str> = covered
            .iter()
            .chain(&recorded)
            .filter(|(name, _)| *name == runtime.name)
            .map(|(_, version)| version.as_str())
            .collect();
        let path = runtime.path.display();
        match &runtime.version {
            None => findings.mismatched.push(format!(
                "the version of `{path}` is not known (it says {:?}): what it calls itself may be refused; measure it with `seccomp-learn runtime-base`, or name the runtime that is used with `--runtime`",
                runtime.says
            )),
            Some(_) if of_it.is_empty() => {
                let line = format!("the profile has nothing for {}; containers that `{path}` starts will fail under it", runtime.name);
                // Of runtimes that nobody named, only one may be in use.
                if chosen { findings.mismatched.push(line) } else { findings.notes.push(line) }
            }
            Some(version) if !of_it.iter().any(|known| series(known) == series(version)) => {
                findings.mismatched.push(format!(
                    "the profile is for {} {}, and `{path}` is {version}; measure this one with `seccomp-learn runtime-base` and make the profile anew",
                    runtime.name,
                    of_it.join(" and ")
                ));
            }
            Some(_) => {}
        }
    }
}

fn this_kernel(evidence: &Evidence, release: &str, findings: &mut Findings) {
    let (then, now) = (synth::version(&evidence.workload.kernel), synth::version(release));
    if then == now {
        return;
    }
    let line = format!("it was learned on kernel {}, and this is {release}", evidence.workload.kernel);
    if evidence.options.margin == "none" {
        findings.mismatched.push(format!(
            "{line}; another kernel may ask for other calls: make it anew with `--margin portable`, or learn it here"
        ));
    } else {
        findings.notes.push(line);
    }
}

fn this_driver(evidence: &Evidence, findings: &mut Findings) {
    match (&evidence.workload.gpu_driver, profiler::host::gpu_driver()) {
        (Some(then), None) => findings.mismatched.push(format!(
            "it was learned with {} driver {}, and no driver is loaded here; load it, or learn the workload without a GPU",
            then.vendor, then.version
        )),
        (Some(then), Some(now)) if branch(&then.version) != branch(&now.version) => {
            findings.mismatched.push(format!(
                "it was learned with {} driver {}, and {} is loaded here; requests change between branches: learn it anew on this one",
                then.vendor, then.version, now.version
            ));
        }
        (None, Some(now)) => findings.notes.push(format!(
            "it was learned without a GPU driver, and {} {} is loaded here",
            now.vendor, now.version
        )),
        _ => {}
    }
}

/// The evidence of a profile, from its folder or from beside it; that of another profile is an error.
pub(crate) fn evidence(name: &Path, profile: &Profile) -> anyhow::Result<Option<Evidence>> {
    let Some(Sidecar { path, evidence, is_own, .. }) = input::sidecar(name, profile)? else {
        return Ok(None);
    };
    if !is_own {
        bail!(
            "`{}` is the evidence of another profile ({}, not {}); make both anew with `seccomp-learn synth`, or move it away if the profile was changed on purpose",
            path.display(),
            evidence.profile,
            profile.digest()
        );
    }
    Ok(Some(evidence))
}

/// The first names, and how many more.
fn some(names: &[&str]) -> String {
    match names.split_at_checked(3) {
        Some((first, rest)) if !rest.is_empty() => format!("{} and {} more", quoted(first), rest.len()),
        _ => quoted(names),
    }
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
