//! The layout of the file: pretty-printed, but what there can be hundreds of stands on one line each.

use std::io::{Result, Write};

use serde_json::ser::{Formatter, PrettyFormatter};

/// The lists whose members stand on one line each.
const LISTS: [&str; 2] = ["values", "opens"];

/// Puts out JSON in that layout.
#[derive(Default)]
pub(crate) struct Lines {
    pretty: PrettyFormatter<'static>,
    is_key: bool,
    key: String,
    /// How deep inside such a list; none outside.
    depth: Option<usize>,
}

impl Lines {
    const fn is_on_a_line(&self) -> bool {
        matches!(self.depth, Some(1..))
    }

    /// Whether what begins is on a line, and that it is one deeper.
    fn enters(&mut self) -> bool {
        self.depth = self.depth.map(|depth| depth + 1);
        self.depth.is_some()
    }

    /// Whether what ends was on a line.
    fn leaves(&mut self) -> bool {
        let was = self.is_on_a_line();
        self.depth = self.depth.and_then(|depth| depth.checked_sub(1));
        was
    }
}

impl Formatter for Lines {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        if self.enters() {
            return writer.write_all(b"[");
        }
        self.depth = LISTS.contains(&self.key.as_str()).then_some(0);
        self.pretty.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        if self.leaves() { writer.write_all(b"]") } else { self.pretty.end_array(writer) }
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        match self.is_on_a_line() {
            true if first => Ok(()),
            true => writer.write_all(b", "),
            false => self.pretty.begin_array_value(writer, first),
        }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        if self.is_on_a_line() { Ok(()) } else { self.pretty.end_array_value(writer) }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        if self.enters() { writer.write_all(b"{ ") } else { self.pretty.begin_object(writer) }
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        if self.leaves() { writer.write_all(b" }") } else { self.pretty.end_object(writer) }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        self.is_key = true;
        self.key.clear();
        match self.is_on_a_line() {
            true if first => Ok(()),
            true => writer.write_all(b", "),
            false => self.pretty.begin_object_key(writer, first),
        }
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, _: &mut W) -> Result<()> {
        self.is_key = false;
        Ok(())
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.pretty.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        if self.is_on_a_line() { Ok(()) } else { self.pretty.end_object_value(writer) }
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> Result<()> {
        if self.is_key {
            self.key.push_str(fragment);
        }
        writer.write_all(fragment.as_bytes())
    }
}
