//! A table in Markdown.

use std::fmt;

/// Columns and rows.
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(Into::into).into(), rows: Vec::new() }
    }

    pub(super) fn column(&mut self, name: &str) {
        self.head.push(name.into());
    }

    pub(super) fn row(&mut self, name: impl fmt::Display, cells: impl IntoIterator<Item = String>) {
        self.rows.push([name.to_string()].into_iter().chain(cells).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {} |", self.head.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(self.head.len()))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}
