//! Text for a terminal or the log of a CI service: what others chose in it (names, paths, reasons) is shown, not obeyed.

use std::{ffi::OsStr, fmt::Write as _, os::unix::ffi::OsStrExt};

/// As wide as a line gets.
const WIDTH: usize = 100;

/// A text in one line and in the reader's own direction: what would end the line, steer a terminal, hide or reorder
/// letters, or begin a command in the log of a CI service, is written out as `\u{…}`.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut starts_word = true;
    for (place, letter) in text.char_indices() {
        let rest = text.get(place..).unwrap_or_default();
        if is_hidden(letter) || (starts_word && is_command(rest)) || rest.starts_with("##[") {
            let _ = write!(shown, "{}", letter.escape_unicode());
        } else {
            shown.push(letter);
        }
        starts_word = letter.is_whitespace();
    }
    shown
}

/// Whether GitHub's runner takes a line for a command that begins with this, spaces aside. It takes `##[command]` for
/// one anywhere in a line:
/// <https://github.com/actions/runner/blob/v2.321.0/src/Runner.Common/ActionCommand.cs>
fn is_command(text: &str) -> bool {
    text.strip_prefix("::").is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_alphabetic()))
}

/// Controls, ends of lines, and what turns the direction of text or takes no room: a name must not hide or reorder
/// anything. Unicode's `Bidi_Control` and `Default_Ignorable_Code_Point`:
/// <https://www.unicode.org/Public/16.0.0/ucd/DerivedCoreProperties.txt>
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Words, or names that stay whole, in lines of a readable width: the first line begins with `first`, the others
/// with `next`. Each is made [`visible`].
pub(crate) fn wrapped<W: AsRef<str>>(words: impl IntoIterator<Item = W>, first: &str, next: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in words {
        let word = visible(word.as_ref());
        let indent = if lines.is_empty() { first } else { next }.chars().count();
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines += &format!("{}{line}\n", if lines.is_empty() { first } else { next });
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += &word;
    }
    if !line.is_empty() {
        lines += &format!("{}{line}\n", if lines.is_empty() { first } else { next });
    }
    lines
}

/// One word for any POSIX shell, which makes these very bytes of it (but for newlines at their very end, which none can
/// write in one line). As it stands it is [`visible`].
pub(crate) fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    let Some(text) = word.to_str().filter(|text| visible(text) == *text) else {
        return format!("\"$(printf '{}')\"", octal(word.as_bytes()));
    };
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+:@=,".contains(c)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Bytes as `printf` reads them: what is not plainly itself as an octal number.
fn octal(bytes: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => char::from(*byte).to_string(),
        other => format!("\\{other:03o}"),
    };
    bytes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_others_chose_is_shown_and_not_obeyed() {
        for (text, shown) in [
            ("py\u{202e}nohtyp\u{7}\n\u{200b}é 日本", "py\\u{202e}nohtyp\\u{7}\\u{a}\\u{200b}é 日本"),
            ("a\n::error::x\u{1b}[2J", "a\\u{a}\\u{3a}:error::x\\u{1b}[2J"),
            ("::error::x ::warning::y", "\\u{3a}:error::x \\u{3a}:warning::y"),
            ("std::fs [::1]:80 ::1 a :: b", "std::fs [::1]:80 ::1 a :: b"),
            ("x##[error]y", "x\\u{23}#[error]y"),
            ("###[error]", "#\\u{23}#[error]"),
            ("1\u{202f}000 \u{1f600}", "1\u{202f}000 \u{1f600}"),
        ] {
            assert_eq!(visible(text), shown);
            assert_eq!(visible(shown), shown, "it stays as it is");
        }
    }

    #[test]
    fn lines_are_as_wide_as_they_may_be_and_none_begins_a_command() {
        let words = ["::error::x"; 30];
        let lines = wrapped(words, "  first ", "        ");
        assert!(lines.lines().all(|line| line.chars().count() <= WIDTH), "{lines}");
        assert!(
            lines.lines().count() > 3 && !lines.lines().any(|line| line.trim().starts_with("::")),
            "{lines}"
        );
        assert_eq!(wrapped(["a", "", "b"], "- ", "  "), "- a  b\n");
        assert_eq!(wrapped([""; 0], "- ", "  "), "");
    }

    #[test]
    fn a_shell_makes_the_same_bytes_of_a_word() {
        let words: [&[u8]; 8] = [
            b"",
            b"plain/run-1.json",
            b"two words",
            b"it's",
            b"a\n::error::x",
            b"\xff 100% \\n \"$HOME\" `id`",
            "py\u{202e}\u{e9}'".as_bytes(),
            b"##[error]",
        ];
        for word in words {
            let quoted = quoted(OsStr::from_bytes(word));
            assert_eq!(visible(&quoted), quoted);
            let told = Command::new("/bin/sh").args(["-c", &format!("printf %s {quoted}")]).output().unwrap();
            assert_eq!(told.stdout, word, "{quoted}");
        }
    }
}
