//! The Prometheus text format, version 0.0.4: what `/metrics` answers.

use std::fmt::{Display, Write};

/// The `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text under construction: a family, then its samples, then the next family.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    family: &'static str,
}

impl Exposition {
    /// Starts a family. `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &'static str, kind: &'static str, help: &'static str) -> &mut Self {
        self.family = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    /// One sample of the family.
    pub fn sample<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: impl Display,
    ) -> &mut Self {
        self.sample_of("", labels, value)
    }

    /// One sample of the family with a suffix to its name (`_bucket`, `_sum`, `_count`).
    pub fn sample_of<'a>(
        &mut self,
        suffix: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        value: impl Display,
    ) -> &mut Self {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        let mut open = '{';
        for (name, label) in labels {
            self.text.push(open);
            open = ',';
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.escape(label);
            self.text.push('"');
        }
        if open == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
        self
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }

    fn escape(&mut self, label: &str) {
        for c in label.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_families_have_heads() {
        let mut e = Exposition::default();
        e.family("weir_x_total", "counter", "Things.").sample([("a", "q\"\\\n"), ("b", "")], 3).sample([], 0.5);
        assert_eq!(
            e.finish(),
            "# HELP weir_x_total Things.\n# TYPE weir_x_total counter\nweir_x_total{a=\"q\\\"\\\\\\n\",b=\"\"} 3\nweir_x_total 0.5\n"
        );
    }
}
