//! Text that others chose (names, paths, commands, reasons), as text: what would not show is written out.

/// Text in the reader's own direction, with whatever would change how it or its surroundings show written out.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|own| if is_hidden(own) { own.escape_unicode().to_string() } else { own.into() })
        .collect()
}

/// Controls, and what turns the direction of text or takes no room: a name must not hide or reorder anything.
fn is_hidden(own: char) -> bool {
    own.is_control()
        || matches!(
            own,
            '\u{ad}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A text as a sentence: with a capital in front and a full stop at its end.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// A share, never rounded to none: `64 %`, `0.3 %`.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 1.0 { format!("{percent:.1} %") } else { format!("{:.0} %", percent.ceil()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_show_is_written_out() {
        assert_eq!(
            plain("py\u{202e}nohtyp\u{7}\n\u{200b}é 日本"),
            "py\\u{202e}nohtyp\\u{7}\\u{a}\\u{200b}é 日本"
        );
        assert_eq!(sentence("refuse `bpf`"), "Refuse `bpf`.");
        assert_eq!(sentence("`bpf` passes."), "`bpf` passes.");
        assert_eq!(percent(0.0033), "0.3 %");
        assert_eq!(percent(0.6316), "64 %");
    }
}
