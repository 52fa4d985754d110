//! Why a command did not do what was asked: what happened, what to do, and the exit code.

use crate::api::types::{Problem, ProblemIssue};
use std::{fmt, process::ExitCode};

/// The end of a command that failed.
#[derive(Debug)]
pub struct Failure {
    /// 1: it failed; 2: it was asked wrongly.
    code: u8,
    message: String,
    remedy: String,
    issues: Vec<ProblemIssue>,
    /// The status that the control plane said no with; 0: it did not come to that.
    status: u16,
}

impl Failure {
    /// It was tried and failed.
    pub fn failed(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), remedy: remedy.into(), issues: Vec::new(), status: 0 }
    }

    /// It cannot be tried: the command line is wrong.
    pub fn usage(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code: 2, message: message.into(), remedy: remedy.into(), issues: Vec::new(), status: 0 }
    }

    /// The documents are wrong.
    pub fn invalid(message: impl Into<String>, issues: Vec<ProblemIssue>) -> Self {
        Self { code: 1, message: message.into(), remedy: String::new(), issues, status: 0 }
    }

    /// The control plane said no.
    pub fn refused(problem: Problem) -> Self {
        let message = if problem.detail.is_empty() { problem.title } else { problem.detail };
        let remedy = match problem.status {
            401 | 403 => "pass the control plane's admin token with --token or WEIR_TOKEN",
            409 => "read it again with `weir get` and repeat the change",
            429 | 503 => "try it again in a moment",
            _ => "",
        };
        Self { code: 1, message, remedy: remedy.into(), issues: problem.issues, status: problem.status }
    }

    /// Changes where the issues are said to be.
    #[must_use]
    pub fn relocated(mut self, relocate: impl Fn(&mut ProblemIssue)) -> Self {
        self.issues.iter_mut().for_each(relocate);
        self
    }

    /// Whether what was asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        self.status == 404
    }

    /// For [`std::process::exit`].
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// 1 or 2.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for issue in &self.issues {
            writeln!(f, "{}", Located(issue))?;
        }
        write!(f, "error: {}", self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "\n  {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// `file:line: field: message (remedy)`, what is known of it.
struct Located<'a>(&'a ProblemIssue);

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProblemIssue { file, line, column: _, field, message, remedy } = self.0;
        f.write_str(file)?;
        if *line > 0 {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        f.write_str(message)?;
        if !remedy.is_empty() {
            write!(f, " ({remedy})")?;
        }
        Ok(())
    }
}
