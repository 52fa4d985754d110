//! The log of this process, and its level, which can be changed while it runs.

use std::{fmt, io::IsTerminal};
use tracing_subscriber::{Registry, filter::Targets, fmt as format, prelude::*, reload};
use weir_config::bootstrap::LogFormat;

/// Changes what is logged.
#[derive(Clone)]
pub struct Logging {
    filter: Option<reload::Handle<Targets, Registry>>,
}

impl Logging {
    /// Starts the log of this process, on standard error. `directives`: a level, or `info,weir_proxy::xds=debug`.
    ///
    /// # Errors
    /// If the directives are none, or a log has been started already.
    pub fn start(directives: &str, how: LogFormat) -> Result<Self, String> {
        let (filter, handle) = reload::Layer::new(parse(directives)?);
        let layer = format::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
        let registry = tracing_subscriber::registry().with(filter);
        match how {
            LogFormat::Text => registry.with(layer).try_init(),
            LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        }
        .map_err(|e| e.to_string())?;
        Ok(Self { filter: Some(handle) })
    }

    /// For a process whose log is somebody else's.
    pub fn foreign() -> Self {
        Self { filter: None }
    }

    /// Logs by these directives from now on.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub fn set(&self, directives: &str) -> Result<(), String> {
        let filter = parse(directives)?;
        let handle = self.filter.as_ref().ok_or("the log of this process cannot be changed from here")?;
        handle.reload(filter).map_err(|e| e.to_string())
    }

    /// What is logged now.
    pub fn directives(&self) -> String {
        let now = self.filter.as_ref().and_then(|f| f.with_current(ToString::to_string).ok());
        now.unwrap_or_default()
    }
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logging({})", self.directives())
    }
}

fn parse(directives: &str) -> Result<Targets, String> {
    let own = match directives {
        // Our own words are meant, not every frame that the HTTP library sees.
        "debug" | "trace" => format!("info,weir_proxy={directives}"),
        other => other.to_owned(),
    };
    own.parse::<Targets>()
        .map_err(|e| format!("`{directives}` says no log level; use trace, debug, info, warn, error or off: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_is_refused() {
        assert!(parse("info,weir_proxy::xds=debug").is_ok());
        assert!(parse("weir_proxy=loud").is_err());
        assert!(parse("debug").unwrap().to_string().contains("weir_proxy=debug"));
        assert!(Logging::foreign().set("debug").is_err());
    }
}
