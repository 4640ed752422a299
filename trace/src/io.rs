//! Reading and writing a trace. A reader gets a trace that is whole, unedited and consistent, or an error that
//! names the culprit.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
};

use serde::{Deserialize, Serialize as _, de::IgnoredAny};

use crate::{
    Digest, FORMAT_MAJOR, FORMAT_MINOR, Open, Outcome, PhaseName, Row, Trace,
    lines::Lines,
    model::{Losses, Phase, Recorder, Startup, Target, TargetKind},
};

/// A trace that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes could not be had.
    #[error("cannot read")]
    Io(#[from] std::io::Error),
    /// The file is empty.
    #[error("the file is empty; record the workload again")]
    Empty,
    /// The text ends in the middle.
    #[error("the trace is truncated at line {line}; record the workload again")]
    Truncated {
        /// Line at which the text ends, from 1.
        line: usize,
    },
    /// It is no JSON, or JSON that is no trace.
    #[error("not a trace: {0}")]
    Malformed(serde_json::Error),
    /// It is a seccomp profile.
    #[error("this is a seccomp profile, not a trace; name the traces that it is made from or judged by")]
    Profile,
    /// Written by a newer tool.
    #[error("trace format `{found}` is newer than {FORMAT_MAJOR}.{FORMAT_MINOR}; use a newer seccomp-learn")]
    Newer {
        /// The version in the file.
        found: String,
    },
    /// A version that is not `major.minor`.
    #[error("`{0}` is no trace format version; expected `major.minor`")]
    Version(String),
    /// The digest is missing or is not that of the content.
    #[error(
        "the trace was changed after it was recorded (its digest is `{expected}`, its content's {actual}); record the workload again"
    )]
    Edited {
        /// The digest in the file, `missing` if there is none.
        expected: String,
        /// The digest of what is in the file.
        actual: Digest,
    },
    /// A name that the ABI's table does not have, or not for that number.
    #[error("unknown syscall `{name}` with number {number} for {abi}")]
    UnknownSyscall {
        /// The name in the file.
        name: String,
        /// The number in the file.
        number: u32,
        /// The ABI in the file.
        abi: crate::Abi,
    },
    /// No call was recorded.
    #[error("the trace has no syscalls in it; record the workload again")]
    NoSyscalls,
    /// The trace contradicts itself.
    #[error("the trace contradicts itself: {0}")]
    Inconsistent(String),
}

/// A trace that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The bytes could not be written.
    #[error("cannot write")]
    Io(#[from] std::io::Error),
    /// The trace is one that no reader would take.
    #[error("the trace contradicts itself: {0}")]
    Inconsistent(String),
    /// It could not be put into JSON.
    #[error("cannot put the trace into JSON")]
    Json(#[from] serde_json::Error),
}

impl Trace {
    /// A trace of one run without rows, to be filled.
    #[must_use]
    pub fn new(recorder: Recorder, target: Target) -> Self {
        Self {
            version: format!("{FORMAT_MAJOR}.{FORMAT_MINOR}"),
            digest: None,
            recorder,
            target,
            complete: false,
            confined: false,
            startup: Startup::Recorded,
            losses: Losses::default(),
            phases: vec![Phase { name: PhaseName::Startup, from_ms: 0 }],
            runs: 1,
            merged: Vec::new(),
            runtime: None,
            exec: None,
            syscalls: Vec::new(),
            opens: Vec::new(),
            opens_beyond: 0,
        }
    }

    /// Reads and checks a trace.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(mut reader: impl Read) -> Result<Self, ReadError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ReadError::Empty);
        }
        check_version(&bytes)?;
        let mut trace: Self = serde_json::from_slice(&bytes).map_err(malformed)?;
        drop(bytes);
        let expected = trace.digest;
        let actual = trace.content_digest().map_err(ReadError::Malformed)?;
        if expected != Some(actual) {
            let expected = expected.map_or_else(|| "missing".to_owned(), |digest| digest.to_string());
            return Err(ReadError::Edited { expected, actual });
        }
        for row in trace.sections().into_iter().flat_map(|(_, rows)| rows) {
            if row.abi.number(&row.name) != Some(row.number) {
                let Row { name, number, abi, .. } = row.clone();
                return Err(ReadError::UnknownSyscall { name, number, abi });
            }
        }
        if trace.sections().iter().all(|(_, rows)| rows.is_empty()) {
            return Err(ReadError::NoSyscalls);
        }
        trace.check().map_err(ReadError::Inconsistent)?;
        Ok(trace)
    }

    /// The digests of the single runs in a trace, without reading the rest: what it says of itself, unchecked. For
    /// [`crate::Merger`], which checks it when the trace is added.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn runs_in(mut reader: impl Read) -> Result<BTreeSet<Digest>, ReadError> {
        #[derive(Deserialize)]
        struct Own {
            digest: Digest,
        }
        #[derive(Deserialize)]
        struct Header {
            digest: Option<Digest>,
            #[serde(default)]
            merged: Vec<Own>,
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        let own = match check_version(&bytes).and_then(|()| serde_json::from_slice(&bytes).map_err(malformed))
        {
            Ok(Header { digest: Some(digest), merged }) => {
                if merged.is_empty() {
                    vec![Own { digest }]
                } else {
                    merged
                }
            }
            // The reader of all says what is wrong.
            _ => return Self::read(bytes.as_slice()).map(|trace| trace.run_digests()),
        };
        Ok(own.into_iter().map(|own| own.digest).collect())
    }

    /// Writes the trace with its digest, pretty-printed, with a final newline.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(&self, writer: impl Write) -> Result<(), WriteError> {
        self.clone().seal_and_write(writer)
    }

    /// The same without a copy in memory.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn seal_and_write(&mut self, mut writer: impl Write) -> Result<(), WriteError> {
        self.seal()?;
        let mut serializer = serde_json::Serializer::with_formatter(&mut writer, Lines::default());
        self.serialize(&mut serializer)?;
        writer.write_all(b"\n")?;
        writer.flush()?;
        Ok(())
    }

    /// Orders the rows, checks them, and stores the digest of the content.
    ///
    /// # Errors
    /// [`WriteError::Inconsistent`] names the row that breaks a law of the format.
    pub fn seal(&mut self) -> Result<Digest, WriteError> {
        for rows in self.sections_mut() {
            rows.sort_by_key(|row| (row.abi, row.number));
        }
        self.check().map_err(WriteError::Inconsistent)?;
        let digest = self.content_digest()?;
        self.digest = Some(digest);
        Ok(digest)
    }

    /// The digest of everything but the digest itself.
    fn content_digest(&mut self) -> Result<Digest, serde_json::Error> {
        let own = self.digest.take();
        let digest = Digest::of_json(self);
        self.digest = own;
        digest
    }

    /// The laws of the format that the types do not say.
    fn check(&self) -> Result<(), String> {
        if self.runs == 0 {
            return Err("`runs` is 0".to_owned());
        }
        let merged = self.merged.len() as u64;
        if merged != if self.runs == 1 { 0 } else { self.runs } {
            return Err(format!("`runs` is {}, but {merged} runs are listed", self.runs));
        }
        if !self.merged.is_sorted_by(|a, b| a.digest < b.digest) {
            return Err("`merged` is not ordered by digest, or names a run twice".to_owned());
        }
        if self.exec.as_ref().is_some_and(|exec| exec.sessions == 0) {
            return Err("`exec` is there, but `sessions` is 0".to_owned());
        }
        let in_container =
            |target: &Target| target.kind == TargetKind::Container || target.container.is_some();
        let since_1_1 = self.runtime.is_some()
            || self.exec.is_some()
            || in_container(&self.target)
            || self.merged.iter().any(|run| in_container(&run.target));
        if since_1_1 && self.version == "1.0" {
            return Err("`version` is 1.0, but it has what came with 1.1".to_owned());
        }
        let since_1_2 = !self.opens.is_empty()
            || self.opens_beyond > 0
            || self.target.gpu.is_some()
            || self.merged.iter().any(|run| run.target.gpu.is_some())
            || self.sections().iter().any(|(_, rows)| rows.iter().any(|row| row.arguments.is_some()));
        if since_1_2 && ["1.0", "1.1"].contains(&self.version.as_str()) {
            return Err(format!("`version` is {}, but it has what came with 1.2", self.version));
        }
        if !self.opens.is_sorted_by(|a, b| a.path < b.path) {
            return Err("`opens` is not ordered by path, or has a path twice".to_owned());
        }
        self.opens.iter().try_for_each(|open| self.check_open(open))?;
        self.sections().into_iter().try_for_each(|(section, rows)| {
            if !rows.is_sorted_by(|a, b| (a.abi, a.number) < (b.abi, b.number)) {
                return Err(format!("`{section}` is not ordered by ABI and number, or has a row twice"));
            }
            rows.iter().try_for_each(|row| self.check_row(row))
        })
    }

    fn check_open(&self, open: &Open) -> Result<(), String> {
        let Open { path, calls, runs, outcomes, .. } = open;
        if *calls == 0 || sum(outcomes) != Some(*calls) {
            return Err(format!("open of `{path}`: {calls} calls, but the outcomes are not as many"));
        }
        if *runs == 0 || *runs > self.runs {
            return Err(format!("open of `{path}`: seen in {runs} of {} runs", self.runs));
        }
        Ok(())
    }

    /// Every list of rows, with where it stands.
    pub(crate) fn sections(&self) -> Vec<(&'static str, &[Row])> {
        let mut sections = Vec::with_capacity(4);
        if let Some(runtime) = &self.runtime {
            sections.push(("runtime.setup", runtime.setup.as_slice()));
            sections.push(("runtime.start", runtime.start.as_slice()));
        }
        if let Some(exec) = &self.exec {
            sections.push(("exec.syscalls", exec.syscalls.as_slice()));
        }
        sections.push(("syscalls", self.syscalls.as_slice()));
        sections
    }

    pub(crate) fn sections_mut(&mut self) -> impl Iterator<Item = &mut Vec<Row>> {
        let runtime = self.runtime.iter_mut().flat_map(|runtime| [&mut runtime.setup, &mut runtime.start]);
        let exec = self.exec.iter_mut().map(|exec| &mut exec.syscalls);
        runtime.chain(exec).chain([&mut self.syscalls])
    }

    fn check_row(&self, row: &Row) -> Result<(), String> {
        let Row { abi, name, calls, denied, in_flight, never_returned, .. } = row;
        let ended =
            sum(&row.outcomes).and_then(|sum| sum.checked_add(*in_flight)?.checked_add(*never_returned));
        if ended != Some(*calls) {
            return Err(format!(
                "{abi} {name}: {calls} calls, but outcomes, in flight and never returned are not as many"
            ));
        }
        if sum(&row.refusals) != Some(*denied) {
            return Err(format!("{abi} {name}: {denied} denied, but the refusals are not as many"));
        }
        if *calls == 0 && *denied == 0 {
            return Err(format!("{abi} {name}: neither called nor denied"));
        }
        if row.runs == 0 || row.runs > self.runs {
            return Err(format!("{abi} {name}: seen in {} of {} runs", row.runs, self.runs));
        }
        row.arguments.iter().try_for_each(|arguments| {
            arguments.check(row).map_err(|error| format!("arguments of {abi} {name}: {error}"))
        })
    }
}

fn sum(counts: &BTreeMap<Outcome, u64>) -> Option<u64> {
    counts.values().try_fold(0u64, |a, b| a.checked_add(*b))
}

fn check_version(bytes: &[u8]) -> Result<(), ReadError> {
    /// All that a reader of any version may rely on.
    #[derive(Deserialize)]
    struct Header {
        version: String,
    }
    /// What every seccomp profile has.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "that it is there is what counts")]
    struct Profile {
        default_action: IgnoredAny,
    }
    let Header { version } = serde_json::from_slice(bytes).map_err(|error| {
        let is_profile = serde_json::from_slice::<Profile>(bytes).is_ok();
        if is_profile { ReadError::Profile } else { malformed(error) }
    })?;
    let (major, minor) = version
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)))
        .ok_or_else(|| ReadError::Version(version.clone()))?;
    if (major, minor) > (FORMAT_MAJOR, FORMAT_MINOR) {
        return Err(ReadError::Newer { found: version });
    }
    if major == FORMAT_MAJOR { Ok(()) } else { Err(ReadError::Version(version)) }
}

fn malformed(error: serde_json::Error) -> ReadError {
    if error.is_eof() { ReadError::Truncated { line: error.line() } } else { ReadError::Malformed(error) }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Abi, Backend, Container, ExecCalls, FilterMoment, FirstSight, RuntimeCalls};

    pub(crate) fn row(number: u32, calls: u64) -> Row {
        Row {
            abi: Abi::X86_64,
            number,
            name: Abi::X86_64.name(number).to_string(),
            calls,
            runs: 1,
            denied: 0,
            outcomes: BTreeMap::from([(Outcome::Ok, calls)]),
            refusals: BTreeMap::new(),
            in_flight: 0,
            never_returned: 0,
            phases: BTreeSet::from([PhaseName::Startup]),
            first: FirstSight { after_ms: u64::from(number), pid: 7, comm: "sh".to_owned() },
            arguments: None,
        }
    }

    pub(crate) fn trace(rows: Vec<Row>) -> Trace {
        let recorder = Recorder {
            tool: "seccomp-learn 0.1.0".to_owned(),
            backend: Backend::Ebpf,
            kernel: "6.18.0".to_owned(),
            arch: "x86_64".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            duration_ms: 5,
            perturbations: Vec::new(),
        };
        let target =
            Target { command: vec!["ls".to_owned()], exit_code: Some(0), ..Target::new(TargetKind::Command) };
        let mut trace = Trace::new(recorder, target);
        trace.complete = true;
        trace.syscalls = rows;
        trace
    }

    pub(crate) fn written(trace: &Trace) -> String {
        let mut bytes = Vec::new();
        trace.write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_is_written_reads_back_and_writes_the_same_bytes() {
        let mut original = trace(vec![row(39, 2), row(0, 1)]);
        let text = written(&original);
        original.seal().unwrap();
        let back = Trace::read(text.as_bytes()).unwrap();
        assert_eq!(back, original);
        assert_eq!(written(&back), text);
    }

    #[test]
    fn a_bad_trace_is_refused_with_the_culprit() {
        let good = written(&trace(vec![row(39, 2)]));
        let check = |text: &str, expected: &str| {
            let error = Trace::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} has no {expected:?}");
        };
        check("", "empty");
        check(" \n", "empty");
        check("hello", "not a trace");
        check("[]", "not a trace");
        check("{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": []}", "this is a seccomp profile");
        check(&good[..good.len() / 2], "truncated");
        check(&good.replace("\"calls\": 2", "\"calls\": 3"), "changed after it was recorded");
        check(&good.replace("\"version\": \"1.2\"", "\"version\": \"2.0\""), "newer");
        check(&good.replace("\"version\": \"1.2\"", "\"version\": \"1.3\""), "newer");
        check(&good.replace("\"version\": \"1.2\"", "\"version\": \"x\""), "no trace format version");
        check(&good.replace("\"runs\": 1,\n  \"sys", "\"colour\": 1,\n  \"sys"), "unknown field `colour`");
        check(&good.replace("\"ok\": 2", "\"ok\": 1, \"ok\": 1"), "duplicate key `ok`");
        check(&good.replace("\"ok\": 2", "\"fine\": 2"), "unknown outcome `fine`");
    }

    /// Builds the text around the digest, so that what is tested is the check behind it.
    #[test]
    fn a_well_sealed_lie_is_refused_too() {
        let resealed = |change: fn(&mut Trace)| {
            let mut trace = trace(vec![row(39, 2), row(41, 2)]);
            change(&mut trace);
            trace.digest = Some(trace.content_digest().unwrap());
            Trace::read(&*serde_json::to_vec(&trace).unwrap()).unwrap_err().to_string()
        };
        assert!(resealed(|t| t.syscalls[0].name = "sokcet".into()).contains("unknown syscall `sokcet`"));
        assert!(resealed(|t| t.syscalls[0].name = "socket".into()).contains("unknown syscall `socket`"));
        assert!(resealed(|t| t.syscalls.clear()).contains("no syscalls"));
        assert!(resealed(|t| t.syscalls[0].calls = 3).contains("getpid: 3 calls"));
        assert!(resealed(|t| t.syscalls[0].denied = 3).contains("3 denied"));
        assert!(resealed(|t| t.syscalls[0].runs = 2).contains("2 of 1 runs"));
        assert!(resealed(|t| t.syscalls.swap(0, 1)).contains("not ordered"));
        assert!(resealed(|t| t.runs = 2).contains("0 runs are listed"));
    }

    /// The laws hold in every section, each named in the error.
    #[test]
    fn a_lie_in_a_section_is_refused_as_well() {
        let resealed = |change: fn(&mut Trace)| {
            let mut trace = trace(vec![row(39, 2), row(41, 2)]);
            trace.runtime = Some(runtime(39, 41));
            trace.exec = Some(ExecCalls { sessions: 1, syscalls: vec![row(0, 1), row(1, 1)] });
            change(&mut trace);
            trace.digest = Some(trace.content_digest().unwrap());
            Trace::read(&*serde_json::to_vec(&trace).unwrap()).map_err(|error| error.to_string())
        };
        let check = |change: fn(&mut Trace), expected: &str| {
            let error = resealed(change).unwrap_err();
            assert!(error.contains(expected), "{error:?} has no {expected:?}");
        };
        assert!(resealed(|_| ()).is_ok());
        assert!(resealed(|t| t.syscalls.clear()).is_ok(), "an idle container with an exec session");
        check(|t| t.runtime.as_mut().unwrap().start[0].name = "sokcet".into(), "unknown syscall `sokcet`");
        check(|t| t.runtime.as_mut().unwrap().setup[0].calls = 3, "getpid: 3 calls");
        check(|t| t.runtime.as_mut().unwrap().start.push(row(0, 1)), "`runtime.start` is not ordered");
        check(|t| t.exec.as_mut().unwrap().syscalls.swap(0, 1), "`exec.syscalls` is not ordered");
        check(|t| t.exec.as_mut().unwrap().syscalls[0].runs = 2, "read: seen in 2 of 1 runs");
        check(|t| t.exec.as_mut().unwrap().sessions = 0, "`sessions` is 0");
        check(|t| t.version = "1.0".into(), "`version` is 1.0");
        let container = |t: &mut Trace| {
            (t.runtime, t.exec, t.version) = (None, None, "1.0".into());
            t.target.kind = TargetKind::Container;
        };
        check(container, "`version` is 1.0");
    }

    #[test]
    fn an_unknown_field_of_a_section_is_named() {
        let mut trace = trace(vec![row(39, 2)]);
        trace.runtime = Some(runtime(39, 41));
        trace.target.container = Some(container());
        let good = written(&trace);
        assert!(Trace::read(good.as_bytes()).is_ok());
        let check = |from: &str, to: &str, expected: &str| {
            assert!(good.contains(from), "{from} is not in {good}");
            let error = Trace::read(good.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} has no {expected:?}");
        };
        check("\"filter\": \"loaded\"", "\"filter\": \"loaded\", \"colour\": 1", "unknown field `colour`");
        check("\"filter\": \"loaded\"", "\"filter\": \"maybe\"", "unknown variant `maybe`");
        check("\"restart\": 0", "\"restart\": 0, \"colour\": 1", "unknown field `colour`");
        check("\"app\": \"x\"", "\"app\": \"x\", \"app\": \"y\"", "duplicate key `app`");
    }

    pub(crate) fn runtime(setup: u32, start: u32) -> RuntimeCalls {
        RuntimeCalls { filter: FilterMoment::Loaded, setup: vec![row(setup, 1)], start: vec![row(start, 1)] }
    }

    pub(crate) fn container() -> Container {
        Container {
            engine: "docker 20.10.24".to_owned(),
            id: "0123456789ab".to_owned(),
            name: Some("web".to_owned()),
            image: Some("localhost/web".to_owned()),
            labels: BTreeMap::from([("app".to_owned(), "x".to_owned())]),
            kind: crate::ContainerKind::Container,
            pod: None,
            restart: 0,
            seccomp: Some("unconfined".to_owned()),
            no_new_privileges: Some(false),
            user: None,
            attached: crate::Attached { before_first_exec_ms: Some(12) },
        }
    }
}
