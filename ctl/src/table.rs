//! Columns that line up.

use std::fmt::Write;

use crate::style::{Tone, width};

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows below a head, all of as many columns.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    align: [Align; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// A table with these columns. A `>` before a name puts its column to the right, as numbers stand.
    pub(crate) fn new(head: [&str; N]) -> Self {
        let align = head.map(|name| if name.starts_with('>') { Align::Right } else { Align::Left });
        Self { align, rows: vec![head.map(|name| Tone::Head.on(name.trim_start_matches('>')))] }
    }

    /// Adds a row; what is empty shows as `-`.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }

    /// Writes all rows, two spaces between columns.
    pub(crate) fn write(&self, out: &mut String) {
        let most = |column: usize| self.rows.iter().map(|row| width(&row[column])).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(most);
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, align), most) in row.iter().zip(self.align).zip(widths) {
                let room = " ".repeat(most - width(cell));
                match align {
                    Align::Left => line.extend([cell, room.as_str(), "  "]),
                    Align::Right => line.extend([room.as_str(), cell, "  "]),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

/// Writes names and values below each other, the values in one column; what is empty shows as `-`.
pub(crate) fn fields(rows: &[(&str, String)], out: &mut String) {
    fields_within(rows, usize::MAX, out);
}

/// The same in so many columns: what is longer goes on below, where a space lets it.
pub(crate) fn fields_within(rows: &[(&str, String)], columns: usize, out: &mut String) {
    let names = rows.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let room = columns.saturating_sub(names + 2).max(1);
    for (name, value) in rows {
        let value = if value.is_empty() { "-" } else { value };
        let mut name = *name;
        for line in wrapped(value, room) {
            let _ = writeln!(out, "{name:<names$}  {line}");
            name = "";
        }
    }
}

/// `text` in lines of at most `room` columns, but for words that are longer.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && width(&line) + 1 + width(word) > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::plain;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["NAME", ">COUNT", "WHAT"]);
        table.row(["a".to_owned(), "7".to_owned(), String::new()]);
        table.row(["Büro".to_owned(), "123456".to_owned(), "x y".to_owned()]);
        let mut out = String::new();
        table.write(&mut out);
        assert_eq!(plain(&out), "NAME   COUNT  WHAT\na          7  -\nBüro  123456  x y\n");

        let mut out = String::new();
        fields(&[("a", "1".to_owned()), ("long", String::new())], &mut out);
        assert_eq!(out, "a     1\nlong  -\n");
    }

    #[test]
    fn colours_do_not_move_columns_and_long_values_go_on_below() {
        let mut table = Table::new(["A", "B"]);
        table.row([Tone::Bad.on("x"), "1".to_owned()]);
        table.row(["long".to_owned(), "2".to_owned()]);
        let mut out = String::new();
        table.write(&mut out);
        assert!(out.contains("\x1b["), "{out:?}");
        assert_eq!(plain(&out), "A     B\nx     1\nlong  2\n");

        let mut out = String::new();
        fields_within(&[("a", "one two three".to_owned()), ("bc", "unbreakable".to_owned())], 11, &mut out);
        assert_eq!(out, "a   one two\n    three\nbc  unbreakable\n");
    }
}
