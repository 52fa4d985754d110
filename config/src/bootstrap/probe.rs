//! The questions that a kubelet asks an application: it has no identity in the mesh, and is to get through with exactly
//! these. Written as `http://:8080/healthz?full=1`, `grpc://:9090`, `tcp://:5432`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// `GET` of one path, its query included.
    Http {
        /// The application's port.
        port: u16,
        /// Begins with `/`.
        path: String,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The application's port.
        port: u16,
    },
    /// A connection, and no more.
    Tcp {
        /// The application's port.
        port: u16,
    },
}

/// Why a text is no [`Probe`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no probe; write it as http://:8080/healthz, grpc://:9090 or tcp://:5432")]
pub struct ProbeError(String);

impl Probe {
    /// The application's port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Http { port, .. } | Self::Grpc { port } | Self::Tcp { port } => *port,
        }
    }
}

impl FromStr for Probe {
    type Err = ProbeError;

    fn from_str(text: &str) -> Result<Self, ProbeError> {
        let wrong = || ProbeError(text.chars().take(200).collect());
        let (scheme, rest) = text.split_once("://:").ok_or_else(wrong)?;
        let digits = rest.find('/').unwrap_or(rest.len());
        let (port, path) = (&rest[..digits], &rest[digits..]);
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let bare = path.is_empty().then_some(());
        match scheme {
            "http" if !path.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                Ok(Self::Http { port, path: if path.is_empty() { "/".into() } else { path.into() } })
            }
            "grpc" => bare.map(|()| Self::Grpc { port }).ok_or_else(wrong),
            "tcp" => bare.map(|()| Self::Tcp { port }).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { port, path } => write!(f, "http://:{port}{path}"),
            Self::Grpc { port } => write!(f, "grpc://:{port}"),
            Self::Tcp { port } => write!(f, "tcp://:{port}"),
        }
    }
}

impl Serialize for Probe {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_read_and_written() {
        for text in ["http://:8080/healthz?full=1", "http://:80/", "grpc://:9090", "tcp://:5432"] {
            assert_eq!(text.parse::<Probe>().unwrap().to_string(), text);
        }
        assert_eq!("http://:80".parse::<Probe>().unwrap().to_string(), "http://:80/");
        for text in ["", "http://8080/", "https://:1/", "http://:0/", "http://:70000/", "grpc://:1/x", "http://:1/a b"]
        {
            assert!(text.parse::<Probe>().unwrap_err().to_string().contains("tcp://:5432"), "{text}");
        }
    }
}
