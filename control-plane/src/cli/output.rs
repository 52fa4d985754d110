//! How results are printed: a table for people, JSON or YAML for programs.

use super::failure::Failure;
use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Write as _;

/// The form of what is printed on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For files.
    Yaml,
}

/// Writes a value in a form for programs, or what `table` makes of it.
///
/// # Errors
/// The value cannot be written in this form.
pub fn print<T: Serialize>(
    out: &mut dyn std::io::Write,
    format: Format,
    value: &T,
    table: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let mut text = match format {
        Format::Table => table(value),
        Format::Json => serde_json::to_string_pretty(value).map_err(|e| unwritable(&e))?,
        Format::Yaml => serde_saphyr::to_string(value).map_err(|e| unwritable(&e))?,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    // A reader that went away (`| head`) is no failure.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

fn unwritable(e: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!("the result cannot be written: {e}"), "try another form with -o")
}

/// Columns as wide as their widest cell.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|c| if c.is_empty() { "-".into() } else { c }).collect());
    }

    /// Whether there are only headings.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |n: usize| self.rows.iter().filter_map(|r| r.get(n)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                write!(line, "{cell:width$}   ")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// How long ago an RFC 3339 time was, as `5s`, `3m`, `2h`, `4d`.
pub fn age(at: &str) -> String {
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    let Ok(at) = OffsetDateTime::parse(at, &Rfc3339) else { return String::new() };
    match (OffsetDateTime::now_utc() - at).whole_seconds().max(0) {
        s @ 0..=119 => format!("{s}s"),
        s @ 120..=7199 => format!("{}m", s / 60),
        s @ 7200..=172_799 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "KIND"]);
        table.row(["a-long-name".into(), "Service".into()]);
        table.row(["b".into(), String::new()]);
        assert_eq!(table.to_string(), "NAME          KIND\na-long-name   Service\nb             -\n");
    }

    #[test]
    fn ages() {
        assert_eq!(age("1970-01-01T00:00:00Z").pop(), Some('d'));
        assert_eq!(age("what"), "");
    }
}
