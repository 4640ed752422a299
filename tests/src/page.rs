//! Pages of `review`, what a browser has to find in each of them, and evidence that means them harm.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use trace::Trace;

use crate::{browser::Browser, cli::run, made::container};

/// A worked workload as it is checked in.
pub fn workload(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/workloads").join(name)
}

/// Makes the page of a workload folder, whatever the answer is.
pub fn page(folder: &Path, into: &Path, more: &[&str]) -> PathBuf {
    let file = into.join(format!("{}.html", folder.file_name().unwrap().to_string_lossy().replace('<', "_")));
    let arguments = ["review", folder.to_str().unwrap(), "-o", file.to_str().unwrap()];
    let finished = run(arguments.iter().chain(more));
    assert!([0, 1, 3].contains(&finished.code) && finished.stderr.contains("wrote "), "{finished:?}");
    file
}

/// The same as JSON.
pub fn json(folder: &Path, more: &[&str]) -> Value {
    let arguments = ["review", folder.to_str().unwrap(), "--format", "json"];
    serde_json::from_str(&run(arguments.iter().chain(more)).stdout).unwrap()
}

/// Where pictures are kept, if they are.
pub fn pictures() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("SECCOMP_LEARN_PICTURES")?);
    fs::create_dir_all(&folder).unwrap();
    Some(folder)
}

pub fn keep_picture(browser: &mut Browser, name: &str) {
    if let Some(folder) = pictures() {
        browser.picture(&folder.join(format!("{name}.png")), false);
        browser.picture(&folder.join(format!("{name}-whole.png")), true);
    }
}

/// What sticks out to the right, outside of what may be scrolled.
pub const OVERFLOWING: &str = r#"
    [...document.querySelectorAll("body *")]
        .filter(own => !own.closest(".scroll") && !own.closest(".skip") && own.getClientRects().length)
        .filter(own => own.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .map(own => own.tagName + "." + own.className + ": " + own.textContent.slice(0, 60))"#;

/// Text that is too small, or whose contrast with what is behind it is below 4.5 (3 where it is large): WCAG 2.2, 1.4.3.
pub const ILLEGIBLE: &str = r#"
    (() => {
        const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
        const rgba = color => {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data];
        };
        const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
        const behind = own => {
            for (let at = own; at; at = at.parentElement) {
                const color = rgba(getComputedStyle(at).backgroundColor);
                if (color[3] === 255) return color;
            }
            return [255, 255, 255, 255];
        };
        const bad = [];
        for (const own of document.querySelectorAll("body *")) {
            const texts = [...own.childNodes].some(node => node.nodeType === 3 && node.data.trim());
            if (!texts || !own.checkVisibility() || own.closest("svg")) continue;
            const style = getComputedStyle(own);
            const size = parseFloat(style.fontSize);
            const [one, other] = [light(rgba(style.color)), light(behind(own))].sort((a, b) => b - a);
            const contrast = (one + 0.05) / (other + 0.05);
            const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
            if (contrast < (large ? 3 : 4.5) || size < 11.5)
                bad.push(`${own.tagName} ${contrast.toFixed(2)} ${size}px: ${own.textContent.slice(0, 40)}`);
        }
        return bad;
    })()"#;

/// The page fits and can be read on a telephone and on a screen, in both schemes, closed and open; it asks for nothing and
/// the browser has nothing to say.
#[track_caller]
pub fn holds(browser: &mut Browser, page: &Path, name: &str) {
    let text = fs::read_to_string(page).unwrap();
    assert!(!text.contains("<script") && !text.contains(" style="), "neither scripts nor inline styles");
    let own = format!("file://{}", page.canonicalize().unwrap().display());
    for (size, width) in [("narrow", 390), ("wide", 1440)] {
        for scheme in ["light", "dark"] {
            let what = format!("{name}, {size}, {scheme}");
            browser.open(page, (width, if width < 500 { 844 } else { 900 }), scheme);
            keep_picture(browser, &format!("{name}-{size}-{scheme}"));
            assert_eq!(browser.evaluate(OVERFLOWING), serde_json::json!([]), "{what}");
            let scrolls = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
            assert_eq!(browser.evaluate(scrolls), false, "{what} scrolls sideways");
            assert_eq!(browser.evaluate(ILLEGIBLE), serde_json::json!([]), "{what}");
            browser.evaluate("document.querySelectorAll('details').forEach(own => own.open = true)");
            assert_eq!(browser.evaluate(OVERFLOWING), serde_json::json!([]), "{what}, all open");
            assert_eq!(browser.evaluate(ILLEGIBLE), serde_json::json!([]), "{what}, all open");
            assert_eq!(browser.complaints(), [""; 0], "{what}");
            assert_eq!(browser.requested(), [own.as_str()], "{what}");
        }
    }
}

/// What somebody might hope to get into the page.
pub const HOSTILE: [&str; 4] = [
    "<script>hi()</script>",
    "</style><img src=x onerror=hi()>",
    "\"><svg onload=hi()>",
    "\u{202e}gnp\u{200b}\u{7}&lt;b&gt;",
];

/// A workload folder whose every text is an attempt.
pub fn hostile(folder: &Path) -> PathBuf {
    let made = folder.join("<img src=x onerror=hi()>");
    fs::create_dir_all(made.join("traces")).unwrap();
    let run_one = workload("inference").join("traces/run-001.json");
    let mut trace = Trace::read(fs::read(run_one).unwrap().as_slice()).unwrap();
    trace.target.command = HOSTILE.map(str::to_owned).to_vec();
    trace.recorder.perturbations = vec![HOSTILE[0].to_owned()];
    trace.recorder.kernel = format!("6.18.0-{}", HOSTILE[2]);
    trace.target.runtime = Some(HOSTILE[1].to_owned());
    trace.target.container = Some(container(HOSTILE[0]));
    for (row, text) in trace.syscalls.iter_mut().zip(HOSTILE.iter().cycle()) {
        row.first.comm = (*text).to_owned();
        for values in row.arguments.iter_mut().flat_map(|own| &mut own.values) {
            values.first.comm = (*text).to_owned();
            if let Some(file) = &mut values.file {
                file.path = file.path.as_ref().map(|_| format!("/dev/{text}"));
            }
        }
    }
    trace.seal().unwrap();
    trace.write(fs::File::create(made.join("traces/run-001.json")).unwrap()).unwrap();
    let text =
        HOSTILE.map(|text| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\u{7}', "\\u0007"));
    let workload = format!(
        "[target]\ncommand = [\"{}\"]\n[[decision]]\nverdict = \"deny\"\nsyscall = \"ptrace\"\nreason = \"{}\"\nowner = \"{}\"\n\
         [[added]]\nsyscall = \"getppid\"\nabi = \"x86_64\"\nwhy = \"{}\"\n",
        text[0], text[1], text[2], text[0]
    );
    fs::write(made.join("workload.toml"), workload).unwrap();
    let output = made.join("profile.json");
    run(["synth", made.to_str().unwrap(), "-o", output.to_str().unwrap()]).expect_code(0);
    made
}

/// The same with a sidecar that somebody wrote by hand: whatever in it is free text is an attempt. What it says was decided
/// counts, since nothing else says so.
pub fn edited(folder: &Path) -> PathBuf {
    let made = hostile(&folder.join("from"));
    let edited = folder.join("edited");
    fs::create_dir_all(&edited).unwrap();
    fs::copy(made.join("profile.json"), edited.join("profile.json")).unwrap();
    let text = fs::read_to_string(made.join("profile.evidence.json")).unwrap();
    let mut sidecar: Value = serde_json::from_str(&text).unwrap();
    let mut attempts = HOSTILE.iter().cycle();
    spoil(&mut sidecar, &mut attempts);
    sidecar["workload"]["gpu_driver"] = serde_json::json!({ "vendor": HOSTILE[1], "version": HOSTILE[0] });
    sidecar["workload"]["command"] = serde_json::json!(HOSTILE);
    sidecar["options"]["runtime"] = serde_json::json!(HOSTILE);
    sidecar["enosys"] = serde_json::json!(HOSTILE);
    let decision = &mut sidecar["options"]["decisions"][0];
    decision["when"] = HOSTILE[2].into();
    decision["syscall"] = HOSTILE[0].into();
    fs::write(edited.join("profile.evidence.json"), serde_json::to_string_pretty(&sidecar).unwrap()).unwrap();
    edited
}

/// Puts an attempt wherever the format takes any text.
fn spoil<'a>(value: &mut Value, attempts: &mut impl Iterator<Item = &'a &'static str>) {
    const FREE: [&str; 16] = [
        "why",
        "words",
        "comm",
        "arguments",
        "runtime",
        "found",
        "owner",
        "reason",
        "when",
        "tool",
        "source",
        "request",
        "device",
        "kernel",
        "file",
        "margin",
    ];
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if FREE.contains(&name.as_str()) => {
                        *text = (*attempts.next().unwrap()).to_owned();
                    }
                    Value::Array(list)
                        if FREE.contains(&name.as_str()) && list.iter().all(Value::is_string) =>
                    {
                        for text in list {
                            *text = (*attempts.next().unwrap()).into();
                        }
                    }
                    other => spoil(other, attempts),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|own| spoil(own, attempts)),
        _ => {}
    }
}
