//! Which Kubernetes runs a pod, as far as sidecars depend on it.

use std::{fmt, str::FromStr};

/// `1.33`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u16,
    minor: u16,
}

impl Version {
    /// The oldest that Weir is tested with; taken where nobody says which it is.
    pub const OLDEST: Self = Self { major: 1, minor: 33 };

    /// Containers among the first ones may run on as sidecars (beta, on by default, from here).
    pub(super) fn has_native_sidecars(self) -> bool {
        self >= Self { major: 1, minor: 29 }
    }
}

impl Version {
    /// A container may wait before it is told to end (`preStop.sleep`; beta, on by default, from here).
    pub(super) fn has_sleep_hooks(self) -> bool {
        self >= Self { major: 1, minor: 30 }
    }
}

impl Default for Version {
    fn default() -> Self {
        Self::OLDEST
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// No version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no version of Kubernetes; write it as 1.33")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    /// `1.33`, `v1.33.2`, `1.33+` (as some providers have it).
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let wrong = || VersionError(text.chars().take(40).collect());
        let mut parts = text.trim_start_matches('v').split('.');
        let mut number = || {
            let digits: String = parts.next()?.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        Ok(Self { major: number().ok_or_else(wrong)?, minor: number().ok_or_else(wrong)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_providers_write_them() {
        for (text, native) in [("1.28", false), ("1.29", true), ("v1.33.2", true), ("1.33+", true), ("2.0", true)] {
            assert_eq!(text.parse::<Version>().unwrap().has_native_sidecars(), native, "{text}");
        }
        assert!("one".parse::<Version>().is_err() && "1".parse::<Version>().is_err());
        assert_eq!("v1.33.2".parse::<Version>().unwrap(), Version::OLDEST);
    }
}
