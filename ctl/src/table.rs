//! Columns that line up.

use std::fmt::Write;

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
        Self { align, rows: vec![head.map(|name| name.trim_start_matches('>').to_owned())] }
    }

    /// Adds a row; what is empty shows as `-`.
    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }

    /// Writes all rows, two spaces between columns.
    pub(crate) fn write(&self, out: &mut String) {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, align), width) in row.iter().zip(self.align).zip(widths) {
                // Writing to a String cannot fail.
                let _ = match align {
                    Align::Left => write!(line, "{cell:<width$}  "),
                    Align::Right => write!(line, "{cell:>width$}  "),
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

/// Writes names and values below each other, the values in one column; what is empty shows as `-`.
pub(crate) fn fields(rows: &[(&str, String)], out: &mut String) {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        let value = if value.is_empty() { "-" } else { value };
        let _ = writeln!(out, "{name:<width$}  {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["NAME", ">COUNT", "WHAT"]);
        table.row(["a".to_owned(), "7".to_owned(), String::new()]);
        table.row(["Büro".to_owned(), "123456".to_owned(), "x y".to_owned()]);
        let mut out = String::new();
        table.write(&mut out);
        assert_eq!(out, "NAME   COUNT  WHAT\na          7  -\nBüro  123456  x y\n");

        let mut out = String::new();
        fields(&[("a", "1".to_owned()), ("long", String::new())], &mut out);
        assert_eq!(out, "a     1\nlong  -\n");
    }
}
