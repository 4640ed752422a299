//! The supervisor: asks the original program about each refused call, writes it down, and answers for it.

use std::{
    fs, io,
    io::{PipeReader, PipeWriter},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use confine::{Event, Listener, Notification, Reply, Signal, signal_thread};
use synth::{Program, SeccompData, Verdict, simulate};
use trace::Abi;

use crate::{
    Stage,
    ledger::{Ledger, Refused},
};

const ENOSYS: u16 = trace::Errno::ENOSYS.number();

/// Where the tasks under a listener come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// A command of ours.
    Command,
    /// A container, or a session in one, whose runtime loaded the filter.
    Container {
        /// The file that the runtime runs from: device and inode.
        runtime: Option<(u64, u64)>,
        /// To what tasks belong that run anything else.
        stage: Stage,
    },
}

impl Origin {
    fn stage(self, thread: u32) -> Stage {
        match self {
            Self::Command => Stage::Workload,
            Self::Container { runtime, stage } => {
                if runtime.is_some() && executable(thread) == runtime {
                    Stage::Start
                } else {
                    stage
                }
            }
        }
    }
}

/// The file that a task runs: device and inode.
pub(crate) fn executable(thread: u32) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(format!("/proc/{thread}/exe")).ok().map(|file| (file.dev(), file.ino()))
}

/// A running supervisor. Dropping it ends what is left of the workload.
#[derive(Debug)]
pub(crate) struct Supervisor {
    ledger: Arc<Mutex<Ledger>>,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Supervisor {
    pub(crate) fn start(
        listener: Listener,
        original: Program,
        ledger: Arc<Mutex<Ledger>>,
        origin: Origin,
        complain: bool,
    ) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let ledger_of_work = Arc::clone(&ledger);
        let work = Work { listener, original, ledger: ledger_of_work, origin, helper: None, complain };
        let thread =
            thread::Builder::new().name("supervisor".to_owned()).spawn(move || work.serve(&stopped))?;
        Ok(Self { ledger, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Whether no process of the workload is left.
    pub(crate) fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops; what is left of the workload ends.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.stop = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the supervisor's thread ended unexpectedly")),
            None => Ok(()),
        }
    }
}

pub(crate) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Work {
    listener: Listener,
    original: Program,
    ledger: Arc<Mutex<Ledger>>,
    origin: Origin,
    /// The process by which a container runtime handed the listener over.
    helper: Option<u64>,
    complain: bool,
}

impl Work {
    fn serve(mut self, stopped: &PipeReader) -> io::Result<()> {
        loop {
            match self.listener.receive(Some(stopped.as_fd()))? {
                Event::Call(call) => self.answer(&call)?,
                Event::Vanished => {}
                Event::Ended => return Ok(()),
                Event::Woken => break,
            }
        }
        while let Some(event) = self.listener.try_receive()? {
            match event {
                Event::Call(call) => self.answer(&call)?,
                Event::Ended => return Ok(()),
                Event::Vanished | Event::Woken => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, call: &Notification) -> io::Result<()> {
        let data = SeccompData {
            nr: call.number,
            arch: call.arch,
            instruction_pointer: call.instruction_pointer,
            args: call.arguments,
        };
        // The kernel took a program of the same form; one that cannot be followed would end the process there.
        let verdict = simulate(&self.original, &data).unwrap_or(Verdict::KillProcess);
        let reply = if verdict.executes() {
            // Notified for another reason than a refusal: under a runtime, a call that depends on its arguments.
            if matches!(self.origin, Origin::Command) {
                lock(&self.ledger).own_listener(call.thread);
            }
            Reply::Continue
        } else if self.ends_the_helper(call) {
            Reply::Continue
        } else {
            self.refuse(call, verdict)
        };
        self.listener.reply(call.id, reply)?;
        Ok(())
    }

    /// Whether a container runtime ends the process that handed the listener over: crun kills it and waits for it.
    /// Without a listener it would make neither call, so neither is the profile's business.
    fn ends_the_helper(&mut self, call: &Notification) -> bool {
        let Some((abi, number)) = Abi::from_audit_arch(call.arch, call.number.cast_unsigned()) else {
            return false;
        };
        if self.origin.stage(call.thread) != Stage::Start {
            return false;
        }
        let [first, second, ..] = call.arguments;
        let is = |name| abi.number(name) == Some(number);
        if is("kill") && second == Signal::SIGKILL as u64 {
            self.helper = Some(first);
        }
        self.helper == Some(first) && (is("kill") || is("wait4"))
    }

    fn refuse(&mut self, call: &Notification, verdict: Verdict) -> Reply {
        let task = Task::read(call.thread);
        let stage = self.origin.stage(call.thread);
        let mut explicit_enosys = false;
        {
            let mut ledger = lock(&self.ledger);
            match Abi::from_audit_arch(call.arch, call.number.cast_unsigned()) {
                Some((abi, number)) => {
                    explicit_enosys = ledger.is_explicit_enosys(abi, number, verdict);
                    ledger.refuse(&Refused {
                        abi,
                        number,
                        arguments: call.arguments,
                        verdict,
                        thread: call.thread,
                        process: task.process,
                        stage,
                    });
                }
                None => ledger.refuse_unknown(),
            }
        }
        if self.complain && !explicit_enosys {
            return Reply::Continue;
        }
        match verdict {
            Verdict::Errno(errno) => Reply::Errno(errno),
            // Nobody traces, and nobody else listens: kernel/seccomp.c answers ENOSYS for both.
            Verdict::Trace(_) | Verdict::Notify | Verdict::Allow | Verdict::Log => Reply::Errno(ENOSYS),
            Verdict::Trap | Verdict::KillThread | Verdict::KillProcess => {
                self.kill(call, &task, verdict);
                // The kernel leaves the number in the return register for the handler of a TRAP.
                Reply::Return(i64::from(call.number))
            }
        }
    }

    /// SIGSYS to the calling thread. It is delivered when the answered call returns, before the program goes on.
    fn kill(&self, call: &Notification, task: &Task, verdict: Verdict) {
        let wanted = match (verdict, task.sigsys) {
            (_, Disposition::Default) | (Verdict::Trap, Disposition::Handled) => Signal::SIGSYS,
            // The kernel forces SIGSYS past handlers and masks; we have SIGKILL for that.
            _ => Signal::SIGKILL,
        };
        if self.listener.id_valid(call.id) {
            // It can only be gone by now; then it is as dead as it should be.
            let _ = signal_thread(task.process, call.thread, wanted);
        }
    }
}

/// What becomes of SIGSYS in a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposition {
    Default,
    Handled,
    IgnoredOrBlocked,
}

/// What is asked of /proc about a thread that waits in a call.
struct Task {
    process: u32,
    sigsys: Disposition,
}

impl Task {
    fn read(thread: u32) -> Self {
        let text = fs::read(format!("/proc/{thread}/status")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let field =
            |name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        let has = |name| {
            let mask = field(name).and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or(0);
            mask & (1 << (Signal::SIGSYS as i32 - 1)) != 0
        };
        let sigsys = if has("SigBlk:") || has("SigIgn:") {
            Disposition::IgnoredOrBlocked
        } else if has("SigCgt:") {
            Disposition::Handled
        } else {
            Disposition::Default
        };
        let process = field("Tgid:").and_then(|pid| pid.parse().ok()).unwrap_or(thread);
        Self { process, sigsys }
    }
}
