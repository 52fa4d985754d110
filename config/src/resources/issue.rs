//! What is wrong with a document, where, and what to do about it.

use serde::Serialize;
use std::{fmt, sync::Arc};

/// One thing that is wrong in what an operator wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Issue {
    /// The file or other source as the caller named it; empty when the document did not come from text.
    pub file: Arc<str>,
    /// The line, from 1; 0 when there is none (the document came as JSON).
    pub line: u32,
    /// The column, from 1; 0 when there is none.
    pub column: u32,
    /// The document and the field in it: `HTTPRoute demo/web spec.rules[0].matches[1].path.value`.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known.
    pub remedy: Option<String>,
}

impl Issue {
    /// An issue of a whole source, such as a file that cannot be read.
    pub fn of_source(file: &str, message: impl Into<String>, remedy: Option<&str>) -> Self {
        Self {
            file: file.into(),
            line: 0,
            column: 0,
            field: String::new(),
            message: message.into(),
            remedy: remedy.map(Into::into),
        }
    }
}

impl fmt::Display for Issue {
    /// `file:line: field: message (remedy)`, leaving out what there is not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.is_empty(), self.line) {
            (true, 0) => {}
            (true, line) => write!(f, "line {line}: ")?,
            (false, 0) => write!(f, "{}: ", self.file)?,
            (false, line) => write!(f, "{}:{line}: ", self.file)?,
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Issue {}
