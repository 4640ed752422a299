//! Tables of Markdown.

use crate::terminal::visible;

/// A table with these headings; nothing where it has no row.
pub(super) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let body: String = rows.into_iter().map(line).collect();
    if body.is_empty() {
        return body;
    }
    let head = line(headings.iter().map(|heading| (*heading).to_owned()).collect());
    format!("{head}|{}\n{body}", "---|".repeat(headings.len()))
}

/// Text in a cell, which cannot leave it.
pub(super) fn cell(text: &str) -> String {
    visible(text).replace('|', "\\|")
}

/// A name, a call or a condition in a cell.
pub(super) fn code(text: &str) -> String {
    format!("`{}`", cell(&text.replace('`', "'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_cell() {
        let row = vec![code("a|b`c\nd"), cell("x|y\n::error::z")];
        assert_eq!(
            table(&["one", "two"], [row]),
            "| one | two |\n|---|---|\n| `a\\|b'c\\u{a}d` | x\\|y\\u{a}\\u{3a}:error::z |\n"
        );
        assert_eq!(table(&["one"], []), "");
    }
}
