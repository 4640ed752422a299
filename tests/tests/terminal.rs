//! What others chose (names of processes, paths, images, reasons) is shown by every verb that writes text, and obeyed by
//! no terminal and no CI service; what cannot be written is an error.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use seccomp_learn_tests::{
    cli::{Finished, run, seccomp_learn},
    made::{container, row, row_with, trace, write},
};
use trace::{Container, FileKind, FirstSight, Open, Outcome, Row, Trace};

/// Ends its line, gives a command to GitHub's runner, clears the screen, and turns the direction of text.
const HOSTILE: &str = "a\n::error::x\u{1b}[2J\u{202e}y ##[error]z ::warning::w";

/// Nothing but plain lines, none of which a CI service takes for a command, but for those of `--format github`.
#[track_caller]
fn is_plain(verb: &str, text: &str) {
    const OWN: [&str; 3] = ["::error title=", "::warning title=", "::notice title="];
    let hidden = |letter: char| {
        (letter.is_control() && letter != '\n')
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(hidden), "{verb}: {text:?}");
    for line in text.lines() {
        let is_own = verb.contains("github") && OWN.iter().any(|own| line.starts_with(own));
        assert!(!line.trim_start().starts_with("::") || is_own, "{verb}: {line}");
        assert!(!line.contains("##["), "{verb}: {line}");
    }
}

/// Runs a verb, and holds all that it says to that.
#[track_caller]
fn plain(arguments: &[&str], code: i32) -> Finished {
    let finished = run(arguments).expect_code(code);
    is_plain(&arguments.join(" "), &format!("{}\n{}", finished.stdout, finished.stderr));
    finished
}

/// A device whose path says more than where it is.
fn device() -> trace::File {
    trace::File {
        kind: FileKind::CharacterDevice,
        device: Some("195:255".to_owned()),
        path: Some(format!("/dev/{HOSTILE}")),
    }
}

/// A trace whose every text is hostile.
fn hostile(run: u64, rows: &[&str]) -> Trace {
    let mut rows: Vec<Row> = rows.iter().map(|name| row(name, 3, HOSTILE)).collect();
    let mut socket = row_with("socket", &["domain"], &[&[1], &[40]]);
    socket.first.comm = HOSTILE.to_owned();
    for values in &mut socket.arguments.as_mut().unwrap().values {
        values.first.comm = HOSTILE.to_owned();
        values.file = Some(device());
    }
    rows.push(socket);
    rows.sort_by_key(|row| row.number);
    let mut trace = trace(run, rows);
    trace.opens.push(Open {
        path: HOSTILE.to_owned(),
        calls: run,
        outcomes: [(Outcome::Ok, run)].into(),
        runs: 1,
        first: FirstSight { after_ms: 3, pid: 7, comm: HOSTILE.to_owned() },
    });
    trace.target.command = vec!["worker".to_owned(), HOSTILE.to_owned()];
    trace.target.container = Some(Container {
        engine: HOSTILE.to_owned(),
        name: Some(HOSTILE.to_owned()),
        seccomp: Some(HOSTILE.to_owned()),
        ..container(HOSTILE)
    });
    trace
}

/// A workload folder with such a trace, and with a decision whose reason and owner are no better.
fn folder(outer: &Path) -> PathBuf {
    let folder = outer.join("w");
    fs::create_dir_all(folder.join("traces")).unwrap();
    write(&hostile(1, &["read", "write", "mount", "exit_group"]), &folder.join("traces"), "run-001.json");
    let text = serde_json::to_string(HOSTILE).unwrap();
    let decision = |verdict: &str, syscall: &str| {
        format!(
            "\n[[decision]]\nverdict = \"{verdict}\"\nsyscall = \"{syscall}\"\nreason = {text}\nowner = {text}\n"
        )
    };
    let decisions = decision("deny", "write") + &decision("allow", "ptrace");
    fs::write(folder.join("workload.toml"), format!("[target]\ncommand = [{text}]\n{decisions}")).unwrap();
    folder
}

#[test]
fn what_others_chose_is_shown_and_not_obeyed() {
    let outer = tempfile::tempdir().unwrap();
    let folder = folder(outer.path());
    let (dir, profile) = (folder.to_str().unwrap(), folder.join("profile.json"));
    let fresh = hostile(2, &["read", "times", "mount", "exit_group"]);
    let fresh = write(&fresh, outer.path(), "fresh\n::error::x.json");
    let (fresh, profile) = (fresh.to_str().unwrap(), profile.to_str().unwrap());
    plain(&["synth", dir, "-o", profile], 0);
    plain(&["verify", dir], 0);
    let said = plain(&["verify", dir, "--fresh", fresh], 1).stdout;
    assert!(
        said.lines().any(|line| line.contains("new syscall `times`") && line.contains("a\\u{a}")),
        "{said}"
    );
    // As decided, and opened again by hand.
    let own = fs::read_to_string(profile).unwrap();
    fs::write(profile, own.replacen("\"read\"", "\"read\", \"write\"", 1)).unwrap();
    let said = plain(&["verify", dir], 1).stdout;
    assert!(said.contains("denies `write`"), "{said}");
    fs::write(profile, own).unwrap();

    for format in ["text", "github"] {
        plain(&["replay", profile, fresh, "--format", format], 1);
        plain(&["replay", dir, dir, "--format", format], 0);
    }
    plain(&["diff", dir, fresh], 1);
    plain(&["diff", "docker", dir], 1);
    plain(&["explain", "write", dir], 1);
    plain(&["explain", "ptrace", dir], 0);
    plain(&["explain", "read", dir], 0);
    let page = outer.path().join("page\n::error::x.md");
    let review = run(["review", dir, "--format", "md", "-o", page.to_str().unwrap()]);
    is_plain("review", &review.stderr);
    let merged = outer.path().join("merged\n::error::x.json");
    plain(&["merge", dir, fresh, "-o", merged.to_str().unwrap()], 0);
    plain(&["merge", "no\n::error::such", "-o", merged.to_str().unwrap()], 2);
}

/// The name that a process gives itself, as `test` tells its denials and `learn` writes it into its report.
#[test]
fn a_process_of_any_name_is_named_in_one_line() {
    let outer = tempfile::tempdir().unwrap();
    let profile = outer.path().join("profile.json");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["times"], "action": "SCMP_ACT_ERRNO"}]}"#;
    fs::write(&profile, text).unwrap();
    let command = ["/bin/sh", "-c", "printf 'a\\n::error::x\\033[2' > /proc/self/comm; times"];
    let profile = profile.to_str().unwrap();
    let said = plain(&[&["test", profile, "--no-plain", "--"], command.as_slice()].concat(), 1);
    let shown = "first by a\\u{a}\\u{3a}:error::x\\u{1b}[2";
    assert!(said.stdout.contains("denied: times(") && said.stdout.contains(shown), "{said:?}");

    let folder = outer.path().join("w");
    let options = ["learn", "--backend", "notify", "--runs", "1", "--runtime", "none", "-o"];
    let said = plain(&[options.as_slice(), &[folder.to_str().unwrap(), "--"], &command].concat(), 0);
    let report = fs::read_to_string(folder.join("report.md")).unwrap();
    is_plain("report.md", &report);
    assert!(report.contains(shown), "{said:?}\n{report}");
}

/// A closed pipe is the reader's choice; a full disk is not.
#[test]
fn a_result_that_cannot_be_written_is_an_error() {
    const INFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../profiles/workloads/inference");
    for arguments in [
        ["replay", INFERENCE, INFERENCE].as_slice(),
        &["replay", INFERENCE, INFERENCE, "--format", "json"],
        &["verify", INFERENCE],
        &["explain", "openat", INFERENCE],
        &["diff", "docker", "podman"],
        &["synth", INFERENCE, "-o", "-"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = seccomp_learn(arguments);
        let finished: Finished =
            command.stdout(Stdio::from(full)).stderr(Stdio::piped()).output().unwrap().into();
        let said = finished.expect_code(2).stderr;
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains("No space left on device"), "{arguments:?}: {said}");
    }
}
