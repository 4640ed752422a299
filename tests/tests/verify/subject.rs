//! What the evidence is about: another image, driver, architecture or program has none.

use std::path::{Path, PathBuf};

use seccomp_learn_tests::{cli::run, made::container};
use trace::{Digest, GpuDriver, Trace};

use crate::{another, change, edit, made, of, remedies, shell, verify, workload};

/// Makes the traces of a folder those of an image.
fn of_image(trace: &mut Trace, name: &str) {
    trace.target.image = Some(Digest::of(name.as_bytes()));
    trace.target.container = Some(container(name));
}

fn with_image(outer: &Path) -> PathBuf {
    let folder = workload(outer);
    change(&folder, |trace| of_image(trace, "registry.example/app:1.4"));
    edit(
        &folder.join("workload.toml"),
        "[target]\n",
        "[target]\nimage = \"registry.example/app:1.4\"\nengine = \"docker\"\n",
    );
    made(&folder);
    folder
}

/// No GPU, no engine, nothing is run: only the tag of the image is another one.
#[test]
fn another_image_has_no_evidence_until_a_fresh_trace() {
    let outer = tempfile::tempdir().unwrap();
    let folder = with_image(outer.path());
    let digest = |name: &str| Digest::of(name.as_bytes()).to_string();
    verify(&folder, &[], 0);
    verify(&folder, &["--image", &digest("registry.example/app:1.4")], 0);
    let reference = format!("registry.example/app@{}", digest("registry.example/app:1.5"));
    let lines = verify(&folder, &["--image", &reference], 3);
    assert_eq!(of(&lines, "NO EVIDENCE").len(), 1, "{lines:#?}");
    // What it says to run records that very image: see `learn`'s own test.
    let learn = format!("seccomp-learn learn -o {} --image {reference}", folder.display());
    assert_eq!(remedies(&lines, "NO EVIDENCE"), [learn.as_str()]);
    let lines = verify(&folder, &["--image", &digest("registry.example/app:1.5")], 3);
    assert_eq!(remedies(&lines, "NO EVIDENCE"), [learn]);
    // What is no version of it goes into a folder of its own.
    let reference = reference.replace("/app", "/tool");
    let lines = verify(&folder, &["--image", &reference], 3);
    let learn = format!("seccomp-learn learn -o {}-tool --image {reference}", folder.display());
    assert_eq!(remedies(&lines, "NO EVIDENCE"), [learn]);

    edit(&folder.join("workload.toml"), "app:1.4", "app:1.5");
    let lines = verify(&folder, &[], 3);
    let without = of(&lines, "NO EVIDENCE");
    let [line] = without.as_slice() else { panic!("{lines:#?}") };
    assert!(
        line.contains("`registry.example/app:1.4`") && line.contains("`registry.example/app:1.5`"),
        "{line}"
    );
    assert_eq!(remedies(&lines, "NO EVIDENCE"), [format!("seccomp-learn learn -o {}", folder.display())]);

    let (_, fresh) = another(&folder, |trace| of_image(trace, "registry.example/app:1.5"));
    let lines = verify(&folder, &["--fresh", &fresh], 0);
    let warned = of(&lines, "warning");
    assert!(warned.iter().any(|line| line.contains("holds for the fresh traces alone")), "{lines:#?}");
    shell(remedies(&lines, "warning")[0]).expect_code(0);
    let lines = verify(&folder, &[], 0);
    assert!(
        of(&lines, "warning").iter().any(|line| line.contains("3 of 4 runs are of another image")),
        "{lines:#?}"
    );
    // The fresh trace of the old image says nothing about the new one.
    let (_, fresh) = another(&folder, |trace| of_image(trace, "registry.example/app:1.4"));
    verify(&folder, &["--fresh", &fresh], 3);
}

#[test]
fn another_driver_or_architecture_has_no_evidence() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let driver = || GpuDriver { vendor: "nvidia".to_owned(), version: "570.86.15".to_owned() };
    change(&folder, |trace| trace.target.gpu_driver = Some(driver()));
    made(&folder);
    verify(&folder, &["--driver", "570.124.06", "--arch", "amd64"], 0);
    let lines = verify(&folder, &["--driver", "580"], 3);
    let without = of(&lines, "NO EVIDENCE");
    assert!(without[0].contains("branch 580") && without[0].contains("nvidia 570.86.15"), "{lines:#?}");
    assert_eq!(remedies(&lines, "NO EVIDENCE"), [format!("seccomp-learn learn -o {}", folder.display())]);
    let lines = verify(&folder, &["--arch", "aarch64"], 3);
    assert!(of(&lines, "NO EVIDENCE")[0].contains("about aarch64, and was recorded on x86_64"), "{lines:#?}");
    assert!(remedies(&lines, "NO EVIDENCE")[0].contains("inference-aarch64 --ready"), "{lines:#?}");
    // What was recorded with a GPU is not replaced by what was recorded without one.
    let (_, fresh) = another(&folder, |trace| trace.target.gpu = Some(false));
    change(&folder, |trace| trace.target.gpu = Some(true));
    made(&folder);
    let lines = verify(&folder, &["--fresh", &fresh], 3);
    assert!(of(&lines, "NO EVIDENCE")[0].contains("used no GPU"), "{lines:#?}");
}

/// A digest that cannot be read is not the tag before it.
#[test]
fn an_image_by_an_unreadable_digest_is_an_error() {
    let outer = tempfile::tempdir().unwrap();
    let folder = with_image(outer.path());
    edit(&folder.join("workload.toml"), "app:1.4", "app:1.4@sha256:xyz");
    let said = run(["verify", folder.to_str().unwrap()]).expect_code(2).stderr;
    assert!(
        said.contains(
            "image `registry.example/app:1.4@sha256:xyz` has no digest after its `@`: `sha256:xyz`; write"
        ),
        "{said}"
    );
}

#[test]
fn a_fresh_trace_of_another_branch_or_architecture_is_no_evidence() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let driver = |version: &str| Some(GpuDriver { vendor: "nvidia".to_owned(), version: version.to_owned() });
    change(&folder, |trace| (trace.target.gpu, trace.target.gpu_driver) = (Some(true), driver("570.86.15")));
    made(&folder);
    // The same branch.
    let (_, fresh) = another(&folder, |trace| trace.target.gpu_driver = driver("570.124.06"));
    verify(&folder, &["--fresh", &fresh], 0);
    let (_, fresh) = another(&folder, |trace| trace.target.gpu_driver = driver("580.65.06"));
    let lines = verify(&folder, &["--fresh", &fresh], 3);
    let without = of(&lines, "NO EVIDENCE");
    assert!(without[0].contains("nvidia 580.65.06") && without[0].contains("nvidia 570.86.15"), "{lines:#?}");
    // Asked about that branch, the fresh trace is the evidence.
    let asked = verify(&folder, &["--fresh", &fresh, "--driver", "580"], 0);
    assert!(of(&asked, "warning")[0].contains("holds for the fresh traces alone"), "{asked:#?}");
    verify(&folder, &["--fresh", &fresh, "--driver", "570"], 3);
    shell(remedies(&lines, "NO EVIDENCE")[0]).expect_code(0);
    verify(&folder, &["--fresh", &fresh], 0);
    verify(&folder, &["--driver", "580"], 0);

    let (_, fresh) = another(&folder, |trace| trace.recorder.arch = "aarch64".to_owned());
    let lines = verify(&folder, &["--fresh", &fresh], 3);
    assert!(remedies(&lines, "NO EVIDENCE")[0].contains("/inference-aarch64 --ready"), "{lines:#?}");
    let lines = verify(&folder, &["--fresh", &fresh, "--arch", "amd64"], 3);
    let own = format!("seccomp-learn learn -o {}", folder.display());
    assert_eq!(remedies(&lines, "NO EVIDENCE"), [own]);
}

#[test]
fn a_fresh_trace_of_another_program_is_no_evidence() {
    let outer = tempfile::tempdir().unwrap();
    let folder = workload(outer.path());
    let (_, fresh) = another(&folder, |trace| trace.target.command = vec!["/bin/true".to_owned()]);
    let lines = verify(&folder, &["--fresh", &fresh], 3);
    assert!(
        of(&lines, "NO EVIDENCE")[0]
            .contains("the fresh traces are of `/bin/true`; they prove nothing about")
    );
    // Its path may be another one, and so may its arguments; that is said.
    let (_, fresh) = another(&folder, |trace| {
        let program = &mut trace.target.command[0];
        *program = program.rsplit('/').next().unwrap().to_owned();
    });
    let lines = verify(&folder, &["--fresh", &fresh], 0);
    assert!(of(&lines, "warning").iter().any(|line| line.contains("is for you to say")), "{lines:#?}");
}
