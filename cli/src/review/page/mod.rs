//! The page: one file, no script, nothing fetched. What it says is decided in `synth::review`; here it is only set.

mod attacks;
mod evidence;
mod findings;
mod first;
mod picture;
mod rules;
mod sign;
mod text;

use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use synth::review::Review;
use trace::Digest;

use crate::terminal::visible;

/// The only style that the page's policy lets a browser apply.
const STYLE: &str = include_str!("style.css");

/// A section of the page.
struct Section {
    id: &'static str,
    title: String,
    body: Markup,
}

/// The review as a page.
pub(super) fn page(review: &Review) -> String {
    let sections = [
        findings::section(review),
        findings::wider(review),
        findings::left_out(review),
        rules::section(review),
        evidence::surface(review),
        evidence::phases(review),
        evidence::completeness(review),
        findings::blind(review),
        evidence::refused(review),
        attacks::section(review),
        findings::decisions(review),
        evidence::about(review),
        sign::section(review),
    ];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // Nothing is fetched, nothing runs, nothing is sent: also if something had got past the escaping.
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (visible(&review.subject.name)) ": review of a seccomp profile" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#findings" { "Skip to the findings" }
                div.frame {
                    (first::screen(review))
                    div.body {
                        nav aria-labelledby="contents" {
                            h2 #contents { "On this page" }
                            ol {
                                @for section in &sections {
                                    li { a href={ "#" (section.id) } { (section.title) } }
                                }
                            }
                        }
                        main {
                            @for section in &sections {
                                section #(section.id) aria-labelledby={ (section.id) "-title" } tabindex="-1" {
                                    h2 id={ (section.id) "-title" } { (section.title) }
                                    (section.body)
                                }
                            }
                        }
                    }
                }
            }
        }
    };
    page.into_string()
}

/// What a browser may do with the page: apply the one style.
fn policy() -> String {
    let digest = Digest::of(STYLE.as_bytes()).to_string();
    let digits = digest.trim_start_matches("sha256:");
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).filter_map(byte).collect();
    format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        STANDARD.encode(bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_is_what_the_policy_names() {
        // SHA-256 of nothing, as FIPS 180-4 test vectors have it, in Base64.
        assert!(!STYLE.contains("</"), "it would end the element");
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"), "nothing is fetched");
        let policy = policy();
        let start = policy.find("sha256-").unwrap() + "sha256-".len();
        let end = start + policy[start..].find('\'').unwrap();
        assert_eq!(STANDARD.decode(&policy[start..end]).unwrap().len(), 32, "{policy}");
    }
}
