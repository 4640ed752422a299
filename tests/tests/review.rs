//! The page that a reviewer signs, in a real browser; what it says in its other forms; what hostile evidence does to
//! it. `SECCOMP_LEARN_PICTURES=DIR` keeps pictures of every page.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use harness::{HeldOut, HeldOutRun, Judged};
use seccomp_learn_tests::{browser::Browser, cli::run, skip};
use serde_json::Value;
use synth::Profile;
use trace::{Digest, Trace};

const WORKLOADS: [&str; 3] = ["inference", "nim-llm", "webrtc-media"];

fn workload(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/workloads").join(name)
}

/// Makes the page of a workload folder, whatever the answer is.
fn page(folder: &Path, into: &Path) -> PathBuf {
    let file = into.join(format!("{}.html", folder.file_name().unwrap().to_string_lossy().replace('<', "_")));
    let finished = run(["review", folder.to_str().unwrap(), "-o", file.to_str().unwrap()]);
    assert!([0, 1].contains(&finished.code), "{finished:?}");
    file
}

/// Where pictures are kept, if they are.
fn pictures() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("SECCOMP_LEARN_PICTURES")?);
    fs::create_dir_all(&folder).unwrap();
    Some(folder)
}

fn keep_picture(browser: &mut Browser, name: &str) {
    if let Some(folder) = pictures() {
        browser.picture(&folder.join(format!("{name}.png")), false);
        browser.picture(&folder.join(format!("{name}-whole.png")), true);
    }
}

/// What sticks out to the right, outside of what may be scrolled.
const OVERFLOWING: &str = r#"
    [...document.querySelectorAll("body *")]
        .filter(own => !own.closest(".scroll") && !own.closest(".skip") && own.getClientRects().length)
        .filter(own => own.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
        .map(own => own.tagName + "." + own.className + ": " + own.textContent.slice(0, 60))"#;

/// Text that is too small, or whose contrast with what is behind it is below 4.5 (3 where it is large): WCAG 2.2, 1.4.3.
const ILLEGIBLE: &str = r#"
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

#[test]
fn the_pages_of_the_worked_workloads_hold_in_a_browser() {
    let Some(mut browser) = Browser::start() else { return skip("needs `chromium`") };
    let folder = tempfile::tempdir().unwrap();
    for name in WORKLOADS {
        let page = page(&workload(name), folder.path());
        let text = fs::read_to_string(&page).unwrap();
        assert!(!text.contains("<script") && !text.contains(" style="), "neither scripts nor inline styles");
        for (size, width) in [("narrow", 390), ("wide", 1440)] {
            for scheme in ["light", "dark"] {
                let what = format!("{name}, {size}, {scheme}");
                browser.open(&page, (width, if width < 500 { 844 } else { 900 }), scheme);
                keep_picture(&mut browser, &format!("{name}-{size}-{scheme}"));
                assert_eq!(browser.evaluate(OVERFLOWING), serde_json::json!([]), "{what}");
                let scrolls = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
                assert_eq!(browser.evaluate(scrolls), false, "{what} scrolls sideways");
                assert_eq!(browser.evaluate(ILLEGIBLE), serde_json::json!([]), "{what}");
                browser.evaluate("document.querySelectorAll('details').forEach(own => own.open = true)");
                assert_eq!(browser.evaluate(OVERFLOWING), serde_json::json!([]), "{what}, all open");
                assert_eq!(browser.evaluate(ILLEGIBLE), serde_json::json!([]), "{what}, all open");
                assert_eq!(browser.complaints(), [""; 0], "{what}");
                let own = format!("file://{}", page.canonicalize().unwrap().display());
                assert_eq!(browser.requested(), [own], "{what}");
            }
        }
        first_screen_answers(&mut browser, &page, name);
    }
}

/// What a reviewer asks first is there without scrolling, on a screen.
fn first_screen_answers(browser: &mut Browser, page: &Path, name: &str) {
    browser.open(page, (1440, 900), "light");
    let answers = browser.evaluate(
        r#"[...document.querySelectorAll("h1, .verdict strong, .answers h2, .answers .figure, .overview svg")]
            .map(own => [own.textContent, own.getBoundingClientRect().bottom])"#,
    );
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 1 + 1 + 1 + 2 * 6, "{answers:?}");
    for answer in answers {
        assert!(answer[1].as_f64().unwrap() <= 900.0, "{name}: below the first screen: {answer}");
    }
    let verdict = browser.evaluate("document.querySelector('.verdict strong').textContent");
    assert_eq!(verdict, "✓ Nothing is wider than RuntimeDefault.", "{name}");
}

#[test]
fn every_section_is_reached_by_keyboard() {
    let Some(mut browser) = Browser::start() else { return skip("needs `chromium`") };
    let folder = tempfile::tempdir().unwrap();
    let page = page(&workload("nim-llm"), folder.path());
    for width in [390, 1440] {
        browser.open(&page, (width, 900), "light");
        let sections = browser.evaluate("[...document.querySelectorAll('main section')].map(own => own.id)");
        let sections: Vec<String> = serde_json::from_value(sections).unwrap();
        assert!(sections.len() >= 12, "{sections:?}");
        // From the top: the link that skips, the answers, the contents.
        let mut reached = BTreeSet::new();
        let mut seen_focus = true;
        for _ in 0..60 {
            browser.press("Tab");
            let at = browser.evaluate(
                r#"(() => {
                    const own = document.activeElement, style = getComputedStyle(own);
                    return [own.closest("nav") ? own.getAttribute("href") : "", parseFloat(style.outlineWidth) > 0];
                })()"#,
            );
            seen_focus &= at[1] == true;
            let Some(section) = at[0].as_str().and_then(|href| href.strip_prefix('#')).map(str::to_owned)
            else {
                continue;
            };
            if !reached.insert(section.clone()) {
                break;
            }
            browser.press("Enter");
            let top = format!(
                "(() => {{ document.documentElement.style.scrollBehavior = 'auto'; const own = document.getElementById('{section}'); own.scrollIntoView(); return [location.hash, own.getBoundingClientRect().top]; }})()"
            );
            let there = browser.evaluate(&top);
            assert_eq!(there[0], format!("#{section}"), "{there}");
            // Back to the contents, where the next Tab goes on.
            browser.evaluate(&format!("document.querySelector('nav a[href=\"#{section}\"]').focus()"));
        }
        assert!(seen_focus, "what has the focus is not shown");
        let all: BTreeSet<String> = sections.into_iter().collect();
        assert_eq!(reached, all, "at {width}");
    }
    keyboard_opens_and_filters(&mut browser, &page);
}

/// Details open by the keyboard, the filter is chosen by it, and what is wide can be scrolled by it.
fn keyboard_opens_and_filters(browser: &mut Browser, page: &Path) {
    browser.open(page, (1440, 900), "light");
    browser.evaluate("document.querySelector('.rule summary').focus()");
    browser.press("Enter");
    assert_eq!(browser.evaluate("document.querySelector('.rule details').open"), true);
    let shown = "[...document.querySelectorAll('.rule')].filter(own => own.checkVisibility()).length";
    let all = browser.evaluate(shown).as_u64().unwrap();
    browser.evaluate("document.querySelector('#show-all').focus()");
    browser.press("ArrowRight");
    assert_eq!(browser.evaluate("document.activeElement.id"), "show-unseen");
    let unseen = browser.evaluate(shown).as_u64().unwrap();
    assert!(unseen > 0 && unseen < all, "{unseen} of {all}");
    let without = "[...document.querySelectorAll('.scroll')].filter(own => own.tabIndex !== 0 || !own.ariaLabel).length";
    assert_eq!(browser.evaluate(without), 0);
}

#[test]
fn a_printed_page_has_everything() {
    let Some(mut browser) = Browser::start() else { return skip("needs `chromium`") };
    let folder = tempfile::tempdir().unwrap();
    let page = page(&workload("webrtc-media"), folder.path());
    browser.open(&page, (1440, 900), "dark");
    browser.evaluate("document.querySelector('#show-unseen').click()");
    browser.media("print", "light");
    let hidden = browser.evaluate(
        r#"[...document.querySelectorAll(".rule, .inner, .finding, .signature")]
            .filter(own => own.getBoundingClientRect().height === 0).length"#,
    );
    assert_eq!(hidden, 0, "closed details and what a filter hides are printed, too");
    let printed = browser.print();
    assert!(printed.starts_with(b"%PDF-"));
    if let Some(folder) = pictures() {
        fs::write(folder.join("webrtc-media.pdf"), printed).unwrap();
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

/// What somebody might hope to get into the page.
const HOSTILE: [&str; 4] = [
    "<script>hi()</script>",
    "</style><img src=x onerror=hi()>",
    "\"><svg onload=hi()>",
    "\u{202e}gnp\u{200b}\u{7}&lt;b&gt;",
];

/// A workload folder whose every text is an attempt.
fn hostile(folder: &Path) -> PathBuf {
    let made = folder.join("<img src=x onerror=hi()>");
    fs::create_dir_all(made.join("traces")).unwrap();
    let run_one = workload("inference").join("traces/run-001.json");
    let mut trace = Trace::read(fs::read(run_one).unwrap().as_slice()).unwrap();
    trace.target.command = HOSTILE.map(str::to_owned).to_vec();
    trace.recorder.perturbations = vec![HOSTILE[0].to_owned()];
    trace.recorder.kernel = format!("6.18.0-{}", HOSTILE[2]);
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

#[test]
fn what_hostile_evidence_says_shows_as_text() {
    let Some(mut browser) = Browser::start() else { return skip("needs `chromium`") };
    let folder = tempfile::tempdir().unwrap();
    let hostile = hostile(folder.path());
    let page = page(&hostile, folder.path());
    for width in [390, 1440] {
        browser.open(&page, (width, 900), "light");
        keep_picture(&mut browser, &format!("hostile-{width}"));
        let elements = "document.querySelectorAll('script, img, iframe, object, embed, form, link, base, [onerror], [onload]').length";
        assert_eq!(browser.evaluate(elements), 0);
        let text = browser.evaluate("document.body.textContent");
        let text = text.as_str().unwrap();
        for part in &HOSTILE[..3] {
            assert!(text.contains(part), "{part}");
        }
        assert!(text.contains("\\u{202e}gnp\\u{200b}\\u{7}&lt;b&gt;"), "what would not show is written out");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{200b}') && !text.contains('\u{7}'));
        assert_eq!(browser.evaluate("document.querySelector('h1').textContent"), "<img src=x onerror=hi()>");
        browser.evaluate("document.querySelectorAll('details').forEach(own => own.open = true)");
        assert_eq!(browser.evaluate(OVERFLOWING), serde_json::json!([]), "at {width}");
        assert_eq!(browser.complaints(), [""; 0]);
        assert_eq!(browser.requested().len(), 1);
    }
    policy_holds(&mut browser);
}

/// Had something got past the escaping, the page's policy would stop it.
fn policy_holds(browser: &mut Browser) {
    let attempt = r#"
        window.ran = 0;
        const put = text => document.body.insertAdjacentHTML("beforeend", text);
        put("<img src='https://127.0.0.1:9/x.png'>");
        put("<iframe src='data:text/html,x'></iframe>");
        put("<b onclick='window.ran = 1' id=clicked>x</b>");
        put("<p id=styled style='color: rgb(1, 2, 3)'>x</p>");
        const script = document.createElement("script");
        script.text = "window.ran = 2";
        document.body.append(script);
        document.getElementById("clicked").click();
        fetch("https://127.0.0.1:9/y").then(() => 1, () => 0)
            .then(fetched => [window.ran, fetched, getComputedStyle(document.getElementById("styled")).color])"#;
    let result = browser.evaluate(attempt);
    assert_eq!((&result[0], &result[1]), (&Value::from(0), &Value::from(0)), "{result}");
    assert_ne!(result[2], "rgb(1, 2, 3)");
    let complaints = browser.complaints().join("\n");
    for directive in ["img-src", "style-src", "script-src", "connect-src"] {
        assert!(
            complaints.contains("Content Security Policy") && complaints.contains(directive),
            "{directive}: {complaints}"
        );
    }
}

#[test]
fn markdown_shows_hostile_text_as_code() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = hostile(folder.path());
    let finished = run(["review", hostile.to_str().unwrap(), "--format", "md"]);
    let text = finished.stdout;
    assert!(text.contains("`<img src=x onerror=hi()>`"), "{text}");
    let outside: String = text.split('`').step_by(2).collect();
    assert!(!outside.contains('<'), "{outside}");
    assert!(text.len() < 65_536, "a comment on GitHub is no longer");
}

#[test]
fn the_same_evidence_gives_the_same_bytes_and_json_fits_its_schema() {
    let schema = synth::review::review_schema();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for name in WORKLOADS {
        for format in ["html", "md", "json"] {
            let once = || run(["review", workload(name).to_str().unwrap(), "--format", format, "-o", "-"]);
            let first = once();
            assert_eq!(first.stdout, once().stdout, "{name}, {format}");
            if format == "json" {
                let document: Value = serde_json::from_str(&first.stdout).unwrap();
                schema.validate(&document).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(document["version"], synth::review::REVIEW_VERSION);
                assert!(document["cost"]["filters"].as_array().is_some_and(|list| list.len() > 1), "{name}");
            }
        }
    }
}

#[test]
fn the_statement_is_about_the_profile_and_all_that_it_rests_on() {
    let folder = workload("nim-llm");
    let finished = run(["review", folder.to_str().unwrap(), "--attest"]);
    let statement: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], synth::review::PREDICATE_TYPE);
    let of = |name: &str| Digest::of(&fs::read(folder.join(name)).unwrap()).to_string();
    let profile = of("profile.json");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], profile.trim_start_matches("sha256:"));
    let digests = &statement["predicate"]["digests"];
    let mut traces: Vec<String> = (1..=3)
        .map(|run| {
            let trace: Value =
                serde_json::from_slice(&fs::read(folder.join(format!("traces/run-{run:03}.json"))).unwrap())
                    .unwrap();
            trace["digest"].as_str().unwrap().to_owned()
        })
        .collect();
    traces.sort();
    let manifest = format!(
        "seccomp-learn review 1\nprofile {profile}\nevidence {}\ntrace {}\n",
        of("profile.evidence.json"),
        traces.join("\ntrace ")
    );
    assert_eq!(digests["manifest"], manifest);
    assert_eq!(digests["review"], Digest::of(manifest.as_bytes()).to_string());
}

#[test]
fn starts_that_were_held_out_are_counted_for_this_profile() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["profile.json", "profile.evidence.json"] {
        fs::copy(workload("inference").join(name), folder.path().join(name)).unwrap();
    }
    let own = Profile::read(&fs::read(folder.path().join("profile.json")).unwrap()).unwrap().digest();
    let start = |number: u8, profile: Digest| HeldOutRun {
        started: format!("2026-01-01T00:00:{number:02}Z"),
        duration_ms: 1,
        container: "c".to_owned(),
        name: None,
        pod: None,
        image: None,
        judged: Judged::Enforced,
        profile: Some(profile),
        tool: "seccomp-learn 0.1.0".to_owned(),
        kernel: "6.8.0".to_owned(),
        arch: "x86_64".to_owned(),
        gpu_driver: None,
        calls: None,
        denials: Vec::new(),
        not_known: Vec::new(),
    };
    let mut starts = HeldOut::default();
    for number in 0..3 {
        starts.add(start(number, own));
    }
    starts.add(start(9, Digest::of(b"another")));
    fs::write(folder.path().join("heldout.json"), starts.to_json()).unwrap();
    let finished = run(["review", folder.path().to_str().unwrap(), "--format", "md"]).expect_code(0);
    let line = "0 refused in 3 starts; up to 64 % of such starts may still meet a refusal";
    assert!(finished.stdout.contains(line), "{}", finished.stdout);
}

#[test]
fn the_answer_says_whether_anything_stands_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let review = |path: &Path, more: &[&str]| {
        let mut arguments = vec!["review", path.to_str().unwrap(), "--format", "md"];
        arguments.extend(more);
        run(arguments)
    };
    // A profile that allows everything has much against it, and no evidence.
    let open = folder.path().join("open.json");
    fs::write(&open, r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}"#).unwrap();
    let finished = review(&open, &[]).expect_code(1);
    assert!(finished.stderr.contains("danger: "), "{finished:?}");
    // Wider than another profile, and nobody answers for it.
    let inference = workload("inference");
    let narrow = folder.path().join("narrow.json");
    fs::write(&narrow, r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#).unwrap();
    let finished = review(&inference, &["--against", narrow.to_str().unwrap()]).expect_code(1);
    assert!(finished.stderr.contains("danger: Wider than"), "{finished:?}");
    // Evidence of another profile says nothing about this one.
    let copy = folder.path().join("copy");
    fs::create_dir_all(&copy).unwrap();
    for name in ["profile.json", "profile.evidence.json"] {
        fs::copy(inference.join(name), copy.join(name)).unwrap();
    }
    review(&copy, &[]).expect_code(0);
    let text = fs::read_to_string(copy.join("profile.json")).unwrap();
    fs::write(copy.join("profile.json"), text.replacen("\"accept4\",", "", 1)).unwrap();
    let finished = review(&copy, &[]).expect_code(3);
    assert!(finished.stderr.contains("danger: The evidence is about another profile"), "{finished:?}");
    // A shipped default has a review, too.
    let finished = review(Path::new("docker"), &["--against", "podman"]);
    assert!(finished.stdout.contains("Seccomp profile `docker`"), "{finished:?}");
}
