//! The page that a reviewer signs, in a real browser: whether it holds, what it says, how it is used without a mouse, and
//! what hostile evidence does to it. `SECCOMP_LEARN_PICTURES=DIR` keeps pictures of every page.

use std::{fs, path::Path};

use seccomp_learn_tests::{
    browser::Browser,
    full::{ONCE, with_narrow},
    page::{HOSTILE, OVERFLOWING, edited, holds, hostile, json, keep_picture, page, pictures, workload},
    skip,
};
use serde_json::Value;

#[test]
fn the_pages_of_the_worked_workloads_hold_in_a_browser() {
    let Some(mut browser) = Browser::start() else { return skip("needs `chromium`") };
    let folder = tempfile::tempdir().unwrap();
    for name in ["inference", "nim-llm", "webrtc-media"] {
        let page = page(&workload(name), folder.path(), &[]);
        holds(&mut browser, &page, name);
        first_screen_answers(&mut browser, &page, name);
        let verdict = browser.evaluate("document.querySelector('.verdict strong').textContent");
        assert_eq!(verdict, "✓ Nothing is wider than RuntimeDefault.", "{name}");
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
}

#[test]
fn a_page_with_everything_on_it_says_all_of_it() {
    let Some(mut browser) = Browser::start() else { return skip("needs `chromium`") };
    let folder = tempfile::tempdir().unwrap();
    let (serve, narrow) = with_narrow(folder.path());
    let plain = page(&serve, folder.path(), &[]);
    holds(&mut browser, &plain, "full");
    first_screen_answers(&mut browser, &plain, "full");
    // Above the default by what a decision allows, and by nothing else.
    let verdict = browser.evaluate(
        "[document.querySelector('.verdict').className, document.querySelector('.verdict').innerText]",
    );
    assert_eq!(verdict[0], "verdict warn");
    let said = verdict[1].as_str().unwrap();
    assert!(
        said.contains("! 1 call wider than RuntimeDefault.") && said.contains("each allowed by a decision"),
        "{said}"
    );

    let against = ["--against", narrow.to_str().unwrap()];
    let made = json(&serve, &against);
    let page = page(&serve, folder.path(), &against);
    holds(&mut browser, &page, "full-against-narrow");
    browser.open(&page, (1440, 900), "light");
    six_answers(&mut browser, &made);
    pictures_show_the_figures(&mut browser, &made);
    tables_have_every_row(&mut browser, &made);
}

/// What each of the answers on the first screen says.
fn six_answers(browser: &mut Browser, made: &Value) {
    let answers = browser.evaluate(
        r#"[...document.querySelectorAll(".answers li")]
            .map(own => [own.querySelector("h2").textContent, own.querySelector(".figure").textContent, own.textContent])"#,
    );
    let (summary, attacks) = (&made["summary"], &made["attacks"]);
    let number = |value: &Value| value.as_u64().unwrap();
    let unseen = number(&summary["allowed"]) - number(&summary["observed"]);
    let objections = number(&summary["findings"]["danger"]);
    assert_eq!(objections, 1, "what is wider and nobody answers for: {:#}", made["findings"]);
    let expected = [
        (
            "Succeeded while recording, refused now",
            "mbind, symlink".to_owned(),
            "Answered as not implemented, so that programs fall back: clone3.",
        ),
        (
            "Allowed, but never observed",
            format!("{unseen} of {}", summary["allowed"]),
            "that every program needs",
        ),
        (
            "Added after a start was refused it",
            "getppid".to_owned(),
            "a trial start under an earlier profile asked for it",
        ),
        (
            "Starts under this profile",
            "1 refused in 4 starts".to_owned(),
            "Up to 76 % of such starts may still meet a refusal (95 % confidence)",
        ),
        (
            "Known attacks",
            format!("{} of {} blocked", attacks["blocked"], attacks["decided"]),
            "narrow.json blocks",
        ),
        ("Findings", "1 objection".to_owned(), "no decision says so"),
    ];
    assert_eq!(answers.as_array().unwrap().len(), expected.len());
    for (answer, (title, figure, more)) in answers.as_array().unwrap().iter().zip(&expected) {
        assert_eq!((answer[0].as_str().unwrap(), answer[1].as_str().unwrap()), (*title, figure.as_str()));
        assert!(answer[2].as_str().unwrap().contains(more), "{answer}");
    }
    let starts = answers[3][2].as_str().unwrap();
    assert!(starts.contains("1 further start could not be judged"), "{starts}");
    let verdict = browser.evaluate(
        "[document.querySelector('.verdict').className, document.querySelector('.verdict').innerText]",
    );
    let wider = summary["wider"].as_array().unwrap().len();
    assert_eq!(verdict[0], "verdict bad");
    let said = verdict[1].as_str().unwrap();
    assert!(
        said.contains(&format!("! {wider} calls wider than "))
            && said.contains("no decision answers for all of them"),
        "{said}"
    );
    let about = browser
        .evaluate("[...document.querySelectorAll('header .about')].map(own => own.innerText).join('\\n')");
    let about = about.as_str().unwrap();
    assert!(
        about.contains("image registry.example/app:1.5 (2 runs), earlier registry.example/app:1.4 (3 runs)"),
        "{about}"
    );
}

/// The curves rise through the points of the data, and each group and class has a bar of its share.
fn pictures_show_the_figures(browser: &mut Browser, made: &Value) {
    let drawn = browser.evaluate(
        "[...document.querySelectorAll('#completeness polyline')].map(own => own.getAttribute('points'))",
    );
    let drawn = drawn.as_array().unwrap();
    assert_eq!(drawn.len(), 2);
    for (points, kind) in drawn.iter().zip(["syscalls", "arguments"]) {
        let curve = made["completeness"][kind]["curve"].as_array().unwrap();
        let expected: Vec<f64> = curve.iter().map(|own| own["expected"].as_f64().unwrap()).collect();
        let points: Vec<(f64, f64)> = points
            .as_str()
            .unwrap()
            .split(' ')
            .map(|own| own.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
            .collect();
        assert_eq!(points.len(), 5, "{kind}");
        assert!(expected.is_sorted() && expected[0] < expected[4], "{kind}: {expected:?}");
        // The same number of percent up for each thing that is expected.
        let scale = (100.0 - points[0].1) / expected[0];
        for ((number, (x, y)), expected) in (0..).zip(&points).zip(&expected) {
            assert!((x - f64::from(number) * 25.0).abs() < 0.02, "{kind}: {points:?}");
            assert!((100.0 - y - expected * scale).abs() < 0.05, "{kind}: {points:?} {expected}");
        }
    }
    let bars = |section: &str| {
        format!(
            "[...document.querySelectorAll('#{section} svg.bar')].map(own => [...own.querySelectorAll('rect')].map(one => parseFloat(one.getAttribute('width'))))"
        )
    };
    for (section, all, parts) in [
        ("phases", &made["phases"], &["all", "notable"][..]),
        ("surface", &made["surface"], &["known", "against", "own", "always"]),
    ] {
        let all = all.as_array().unwrap();
        let number = |own: &Value, part: &str| match part {
            "all" => own["syscalls"].as_array().unwrap().len() as f64,
            "own" => own["always"].as_f64().unwrap() + own["conditional"].as_f64().unwrap(),
            part => own[part].as_f64().unwrap(),
        };
        let most = all.iter().map(|own| number(own, parts[0])).fold(0.0, f64::max);
        let drawn = browser.evaluate(&bars(section));
        assert_eq!(drawn.as_array().unwrap().len(), all.len(), "{section}");
        for (drawn, own) in drawn.as_array().unwrap().iter().zip(all) {
            // What is narrower is drawn over what is wider.
            let mut expected: Vec<f64> = parts.iter().map(|part| number(own, part) / most * 100.0).collect();
            expected.sort_by(|one, other| other.total_cmp(one));
            let drawn: Vec<f64> = serde_json::from_value(drawn.clone()).unwrap();
            assert!(
                drawn.iter().zip(&expected).all(|(one, other)| (one - other).abs() < 0.01),
                "{section}: {drawn:?} {expected:?}"
            );
            assert_eq!(drawn.len(), expected.len());
        }
    }
    assert!(made["phases"].as_array().unwrap().len() >= 5);
}

/// Every rule with its conditions, and every row of the tables that the worked workloads leave empty.
fn tables_have_every_row(browser: &mut Browser, made: &Value) {
    browser.evaluate("document.querySelectorAll('details').forEach(own => own.open = true)");
    let rules = made["rules"].as_array().unwrap();
    let shown = browser.evaluate("Object.fromEntries([...document.querySelectorAll('.rule')].map(own => [own.id, own.innerText.replaceAll('\\u200b', '')]))");
    assert_eq!(shown.as_object().unwrap().len(), rules.len());
    for rule in rules {
        let text = shown[&format!("rule-{}", rule["syscall"].as_str().unwrap())].as_str().unwrap_or_default();
        let ways = rule["ways"].as_array().unwrap();
        for part in ways
            .iter()
            .flat_map(|way| [&way["words"], &way["reasons"]])
            .flat_map(|own| own.as_array().unwrap())
        {
            assert!(text.contains(part.as_str().unwrap()), "{rule}: {text}");
        }
    }
    let mut rows = |section: &str, label: &str| -> Vec<String> {
        let found = browser.evaluate(&format!("[...document.querySelectorAll('#{section} .scroll[aria-label=\"{label}\"] tbody tr')].map(own => own.innerText)"));
        serde_json::from_value(found).unwrap()
    };
    let wider = rows("wider", "What is wider");
    assert_eq!(wider.len(), made["wider"].as_array().unwrap().len());
    let persona = wider.iter().find(|row| row.contains("personality")).unwrap();
    assert!(
        persona.contains("allow where persona == PER_LINUX|ADDR_NO_RANDOMIZE by platform until 2999-12-31"),
        "{persona}"
    );
    assert!(wider.iter().filter(|row| row.ends_with("none")).count() > 10, "{wider:?}");
    let left_out = rows("left-out", "What was left out");
    for part in ["mbind", "accepted by security", "symlink", "nothing here makes links"] {
        assert!(left_out.iter().any(|row| row.contains(part)), "{part}: {left_out:?}");
    }
    let refused = rows("refused", "Refused while recording");
    assert!(
        refused.len() == 1
            && ["ptrace", "EPERM 3", "crashpad", "no, so it was not needed"]
                .iter()
                .all(|part| refused[0].contains(part)),
        "{refused:?}"
    );
    let once = rows("completeness", "Seen in one run only");
    assert_eq!(once.len(), ONCE.len());
    for (name, _) in ONCE {
        assert!(once.iter().any(|row| row.starts_with(name)), "{name}: {once:?}");
    }
    let decisions = rows("decisions", "Decisions");
    assert!(decisions.len() == 3 && decisions[0].contains("PER_LINUX|ADDR_NO_RANDOMIZE"), "{decisions:?}");
    let added = &shown["rule-getppid"].as_str().unwrap();
    assert!(
        added.contains("added after a denial") && added.contains("refused once in a cold start by serve"),
        "{added}"
    );
}

/// Where the focus is, and whether that shows: what has none has no outline.
const FOCUS: &str = r#"
    (() => {
        const outline = own => getComputedStyle(own).outlineStyle;
        const own = document.activeElement, shown = own.tagName === "INPUT" ? own.nextElementSibling : own;
        const other = [...document.querySelectorAll("nav a")].find(link => link !== own);
        return [own.closest("nav") ? own.getAttribute("href") : "", outline(shown), outline(other)];
    })()"#;

#[test]
fn every_section_is_reached_by_keyboard() {
    let Some(mut browser) = Browser::start() else { return skip("needs `chromium`") };
    let folder = tempfile::tempdir().unwrap();
    let page = page(&workload("nim-llm"), folder.path(), &[]);
    for width in [390, 1440] {
        browser.open(&page, (width, 900), "light");
        let sections = browser.evaluate("[...document.querySelectorAll('main section')].map(own => own.id)");
        let sections: Vec<String> = serde_json::from_value(sections).unwrap();
        assert!(sections.len() >= 12, "{sections:?}");
        let mut reached = Vec::new();
        for place in 0..sections.len() {
            // From the top: the link that skips, the answers, the contents.
            browser.open(&page, (width, 900), "light");
            let mut links = 0;
            let section = loop {
                browser.press("Tab");
                let at = browser.evaluate(FOCUS);
                assert_ne!(at[1], "none", "what has the focus is not shown: {at}");
                assert_eq!(at[2], "none", "what has no focus looks as if it had");
                let Some(section) = at[0].as_str().and_then(|href| href.strip_prefix('#')) else {
                    assert!(links == 0, "{place}: the contents have no such link");
                    continue;
                };
                links += 1;
                if links > place {
                    break section.to_owned();
                }
            };
            browser.press("Enter");
            let there = browser.evaluate(
                "[location.hash, document.activeElement.id, document.activeElement.getBoundingClientRect().top, innerHeight, scrollY]",
            );
            assert_eq!(
                (&there[0], &there[1]),
                (&Value::from(format!("#{section}")), &Value::from(section.as_str()))
            );
            let (top, height) = (there[2].as_f64().unwrap(), there[3].as_f64().unwrap());
            assert!(
                (-1.0..height).contains(&top) && there[4].as_f64() > Some(0.0),
                "{section} at {width}: {there}"
            );
            reached.push(section);
        }
        assert_eq!(reached, sections, "at {width}");
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
    let page = page(&workload("webrtc-media"), folder.path(), &[]);
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

#[test]
fn what_hostile_evidence_says_shows_as_text() {
    let Some(mut browser) = Browser::start() else { return skip("needs `chromium`") };
    let folder = tempfile::tempdir().unwrap();
    let against = folder.path().join("\"><svg onload=hi()>.json");
    seccomp_learn_tests::full::narrow(&against);
    let against = ["--against", against.to_str().unwrap()];
    let hostile = hostile(folder.path());
    let page_of = page(&hostile, folder.path(), &against);
    shows_as_text(&mut browser, &page_of, "hostile");
    let text = browser.evaluate("document.body.textContent");
    let text = text.as_str().unwrap();
    assert_eq!(browser.evaluate("document.querySelector('h1').textContent"), "<img src=x onerror=hi()>");
    for part in [
        "wider than \"><svg onload=hi()>.json",
        "</style><img src=x onerror=hi()> is a runtime without a table",
    ] {
        let part = part.replace("wider than ", "");
        assert!(text.contains(&part), "{part}");
    }
    let image = browser.evaluate("document.querySelector('header .about').textContent");
    assert_eq!(image, "image <script>hi()</script>");
    policy_holds(&mut browser);

    let edited = edited(folder.path());
    let page_of = page(&edited, folder.path(), &against);
    shows_as_text(&mut browser, &page_of, "edited");
    let facts = browser.evaluate("document.querySelector('#about').textContent");
    let driver = format!("GPU driver{} {}", HOSTILE[1], HOSTILE[0]);
    assert!(facts.as_str().unwrap().contains(&driver), "{facts}");
    let decision = browser.evaluate("document.querySelector('#decisions tbody tr').textContent");
    for part in [HOSTILE[0], HOSTILE[2]] {
        assert!(decision.as_str().unwrap().contains(part), "{decision}");
    }
}

/// Nothing of it became an element, nothing ran, and what would not show is written out.
fn shows_as_text(browser: &mut Browser, page: &Path, name: &str) {
    for width in [390, 1440] {
        browser.open(page, (width, 900), "light");
        keep_picture(browser, &format!("{name}-{width}"));
        let elements = "document.querySelectorAll('script, img, iframe, object, embed, form, link, base, [onerror], [onload]').length";
        assert_eq!(browser.evaluate(elements), 0);
        let text = browser.evaluate("document.body.textContent");
        let text = text.as_str().unwrap();
        for part in &HOSTILE[..3] {
            assert!(text.contains(part), "{part}");
        }
        assert!(text.contains("\\u{202e}gnp\\u{200b}\\u{7}&lt;b&gt;"), "what would not show is written out");
        assert!(!text.contains('\u{202e}') && !text.contains('\u{200b}') && !text.contains('\u{7}'));
        browser.evaluate("document.querySelectorAll('details').forEach(own => own.open = true)");
        assert_eq!(browser.evaluate(OVERFLOWING), serde_json::json!([]), "{name} at {width}");
        assert_eq!(browser.complaints(), [""; 0]);
        assert_eq!(browser.requested().len(), 1);
    }
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
