//! Naming the denials of a container where there is no BPF: its runtime hands us the listener of the filter.
//!
//! A profile can say which calls a supervisor answers, and at which socket the runtime finds that supervisor
//! (`listenerPath`). So the profile is rewritten: what it refuses, and what it allows under conditions, is notified;
//! we ask the original program and answer what it says. Two things cannot be named that way, since runtimes do not
//! load such a profile: `write`, and the calls that no rule can name because the host's libseccomp does not know them
//! (the default action cannot be a notification). Those are refused as the original refuses them.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use confine::Listener;
use serde::Deserialize;
use synth::{Action, CompileOptions, Entry, Profile, Program, compile};
use trace::{Abi, SyscallName};

use crate::{
    Answer, HarnessError, Judge, PhaseSetter, Report, Stage,
    ledger::Ledger,
    supervisor::{Origin, Supervisor, executable, lock},
};

/// The call that runc does not let a supervisor answer: it hands the listener over with it.
const WRITE: &str = "write";

/// Waits for the listeners of one container and answers them. Dropping it makes what it would answer fail with ENOSYS.
#[derive(Debug)]
pub struct Relay {
    profile: Profile,
    phase: PhaseSetter,
    socket: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    ledger: Arc<Mutex<Ledger>>,
    original: Program,
    supervisors: Mutex<Vec<Supervisor>>,
    remarks: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// What is read of the state that comes with a listener.
#[derive(Deserialize)]
struct State {
    pid: u32,
}

impl Relay {
    /// Listens on a socket in this folder, which only its owner should be able to enter.
    ///
    /// # Errors
    /// The profile cannot be compiled, or the socket cannot be made.
    pub fn listen(profile: &Profile, folder: &Path) -> Result<Self, HarnessError> {
        let judge = Judge::new(profile.clone())?;
        let original = compile(profile, judge.native(), CompileOptions::default())?;
        let socket = folder.join("seccomp.sock");
        let listener = UnixListener::bind(&socket);
        let listener = listener.map_err(|source| HarnessError::Listen { path: socket.clone(), source })?;
        let phase = PhaseSetter::default();
        let ledger = Ledger::new(profile.clone(), judge.native(), phase.clone());
        let shared = Arc::new(Shared {
            ledger: Arc::new(Mutex::new(ledger)),
            original,
            supervisors: Mutex::default(),
            remarks: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("relay".to_owned()).spawn(move || shared.accept(&listener))
        };
        let thread = thread.map_err(HarnessError::Supervisor)?;
        let profile = supervised(&judge, &socket);
        Ok(Self { profile, phase, socket, shared, thread: Some(thread) })
    }

    /// The profile that the container is to be started with.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Sets the phase that denials are written under.
    #[must_use]
    pub fn phase_setter(&self) -> PhaseSetter {
        self.phase.clone()
    }

    /// Whether a runtime has handed a listener over: then the filter is loaded.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        !self.shared.supervisors.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Stops, and says what was denied.
    ///
    /// # Errors
    /// When a supervisor failed: then denials may be missing.
    pub fn finish(mut self) -> Result<Report, HarnessError> {
        self.close();
        let mut supervisors = self.shared.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        for supervisor in supervisors.iter_mut() {
            supervisor.finish().map_err(HarnessError::Supervisor)?;
        }
        let ledger = lock(&self.shared.ledger);
        let mut remarks = ledger.remarks();
        remarks.append(&mut self.shared.remarks.lock().unwrap_or_else(PoisonError::into_inner));
        remarks.push(
            "denials were named by the runtime's listener: a refused `write`, and calls that this host's libseccomp \
             does not know, are refused but not named"
                .to_owned(),
        );
        Ok(Report { denials: ledger.denials(), remarks })
    }

    fn close(&mut self) {
        self.shared.stop.store(true, Relaxed);
        // Wakes the thread, which then sees that it is to stop.
        let _ = UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.socket);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.close();
    }
}

/// How long a runtime that has connected may take to hand over its listener.
const HANDOVER: Duration = Duration::from_secs(10);

impl Shared {
    fn accept(&self, listener: &UnixListener) {
        while let Ok((stream, _)) = listener.accept() {
            if self.stop.load(Relaxed) {
                return;
            }
            if let Err(error) = self.serve(&stream) {
                let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
                remarks.push(format!("a container runtime connected, but handed no listener over: {error}"));
            }
        }
    }

    fn serve(&self, stream: &UnixStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(HANDOVER))?;
        let (descriptor, state) = confine::receive_listener(stream)?;
        let state: State = serde_json::from_slice(&state)?;
        let mut supervisors = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        // The container's own filter is the first; each exec session loads its own.
        let stage = if supervisors.is_empty() { Stage::Workload } else { Stage::Exec };
        let origin = Origin::Container { runtime: executable(state.pid), stage };
        let listener = Listener::from_descriptor(descriptor)?;
        let ledger = Arc::clone(&self.ledger);
        supervisors.push(Supervisor::start(listener, self.original.clone(), ledger, origin, false)?);
        Ok(())
    }
}

/// The profile with everything notified that it does not allow without conditions.
fn supervised(judge: &Judge, socket: &Path) -> Profile {
    let original = judge.profile();
    let mut abis: BTreeSet<Abi> = original.architectures.iter().filter_map(|one| one.abi()).collect();
    abis.insert(judge.native());
    let names = abis.iter().flat_map(|abi| {
        (0..Judge::NUMBERS).filter_map(|number| match abi.name(number) {
            SyscallName::Known(name) => Some(name),
            SyscallName::Unknown(_) => None,
        })
    });
    let mut allowed = BTreeSet::new();
    let mut notified = BTreeSet::new();
    for name in names.filter(|name| *name != WRITE && synth::host_knows(name)) {
        let free = abis.iter().filter_map(|abi| Some((*abi, abi.number(name)?)));
        let free =
            free.map(|(abi, number)| judge.answer(abi, number)).all(|answer| answer == Answer::Allowed);
        if free {
            allowed.insert(name)
        } else {
            notified.insert(name)
        };
    }
    let entry = |names: BTreeSet<&str>, action| Entry {
        names: names.into_iter().map(str::to_owned).collect(),
        action,
        errno_ret: None,
        args: Vec::new(),
    };
    let mut syscalls: Vec<Entry> = original
        .syscalls
        .iter()
        .filter(|entry| entry.names.iter().any(|name| name == WRITE))
        .map(|entry| Entry { names: vec![WRITE.to_owned()], ..entry.clone() })
        .collect();
    for (names, action) in [(allowed, Action::Allow), (notified, Action::Notify)] {
        if !names.is_empty() {
            syscalls.push(entry(names, action));
        }
    }
    Profile {
        listener_path: Some(socket.to_string_lossy().into_owned()),
        listener_metadata: None,
        syscalls,
        ..original.clone()
    }
}

#[cfg(test)]
mod tests {
    use synth::{SeccompData, Verdict, simulate};

    use super::*;

    /// Whatever is asked: what the original allows without conditions is allowed, the rest is notified or, where it
    /// cannot be, refused as before.
    #[test]
    fn the_supervised_profile_lets_nothing_pass_that_the_original_refuses() {
        let container = synth::Container::new(Abi::X86_64, (6, 18));
        let docker = synth::reference("docker").unwrap().resolve(&container);
        let strict = br#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW"},
            {"names":["write"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}]},
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}]}"#;
        for profile in [docker, Profile::read(strict).unwrap()] {
            let judge = Judge::new(profile.clone()).unwrap();
            let supervised = supervised(&judge, Path::new("/run/s"));
            // It is a profile that our own reader takes, too.
            let supervised = Profile::read(supervised.to_json().as_bytes()).unwrap();
            let program = compile(&supervised, Abi::X86_64, CompileOptions::default()).unwrap();
            let mut notified = 0;
            for abi in [Abi::X86_64, Abi::I386, Abi::X32] {
                for number in (0..600).filter(|number| !synth::bypasses_filters(abi, *number)) {
                    for first in [0, 1, 2, 16, 0x7e02_0000] {
                        let arguments = [first, 1, 8, 8, 0, 0];
                        let data = SeccompData::call(abi, number, arguments);
                        let before = judge.verdict(abi, number, arguments);
                        match simulate(&program, &data).unwrap() {
                            Verdict::Notify => notified += 1,
                            after => assert_eq!(after, before, "{abi} {}", abi.name(number)),
                        }
                    }
                }
            }
            assert!(notified > 100, "{notified}");
            let write = simulate(&program, &SeccompData::call(Abi::X86_64, 1, [9, 0, 0, 0, 0, 0]));
            assert_ne!(write.unwrap(), Verdict::Notify);
        }
    }
}
