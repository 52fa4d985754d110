//! How one root is exchanged for another: pure, one step at a time, each of which can be taken again.
//!
//! ```text
//! start ─> spreading ── all hold both roots ──> renewing ── all certificates are of the new ──> retiring ─> done
//!              └─ abort: the new root goes          └─ abort: the old one signs again, then the new one goes
//! ```
//! Nothing is trusted later than it is needed: the new root is with every proxy before anything is signed by it, and the
//! old one goes when nobody shows a certificate of it. An issuer that has expired signs nothing, so there is nothing to be
//! careful of: its rotation begins with the new issuer, for which the old key vouches.

use super::kept::{Kept, Material};
use serde::{Deserialize, Serialize};

/// An exchange that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// How far it is.
    pub phase: Phase,
    /// The root that does not sign: the next one, then the one before (to go back to); gone at the end.
    pub other: Option<Material>,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// When this phase began, in seconds since 1970.
    pub since: u64,
    /// It stays in its phase until told to go on.
    pub hold: bool,
    /// It goes back.
    pub aborting: bool,
    /// The root before had expired.
    pub repair: bool,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The new root is trusted, and the old one signs: waiting until every proxy holds both.
    Spreading,
    /// The new one signs, and both are trusted: waiting until no certificate of the old one is left.
    Renewing,
    /// The old one is not trusted any more: waiting until every proxy has let it go.
    Retiring,
}

impl Phase {
    /// All, in their order.
    pub const ALL: [Self; 3] = [Self::Spreading, Self::Renewing, Self::Retiring];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spreading => "spreading",
            Self::Renewing => "renewing",
            Self::Retiring => "retiring",
        }
    }

    /// What it waits for, in words.
    pub fn waits_for(self) -> &'static str {
        match self {
            Self::Spreading => "every proxy to hold the new root beside the old one",
            Self::Renewing => "every proxy to have a certificate of the new root",
            Self::Retiring => "every proxy to have let the old root go",
        }
    }
}

/// What is known of the proxies, over all replicas of the control plane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Proxies that do not hold the trust bundle of this phase yet.
    pub unaware: usize,
    /// Proxies whose certificate is not of the present issuer.
    pub stale: usize,
    /// Replicas that have not taken this phase in yet.
    pub behind: usize,
}

impl Facts {
    /// Whether a phase is over.
    pub fn allow(&self, phase: Phase) -> bool {
        self.behind == 0
            && match phase {
                Phase::Spreading | Phase::Retiring => self.unaware == 0,
                Phase::Renewing => self.stale == 0 && self.unaware == 0,
            }
    }
}

impl Kept {
    /// Begins; `next` is new, and crossed by the present root.
    ///
    /// # Errors
    /// In words: one is under way.
    pub fn start(&self, next: Material, expired: bool, hold: bool, now: u64) -> Result<Self, String> {
        if let Some(rotation) = &self.rotation {
            return Err(format!(
                "a rotation is under way ({}); see `weir rotate-anchor --status`, go on with --resume, or go back with --abort",
                rotation.phase.as_str()
            ));
        }
        let mut kept = self.clone();
        let rotation = |phase, other, hold| Rotation {
            phase,
            other: Some(other),
            started: now,
            since: now,
            hold,
            aborting: false,
            repair: expired,
        };
        kept.last.clear();
        if expired {
            let old = std::mem::replace(&mut kept.issuing, next);
            kept.roots = vec![kept.issuing.certificate.clone(), old.certificate.clone()];
            kept.rotation = Some(rotation(Phase::Renewing, old, hold));
        } else {
            kept.roots = vec![self.issuing.certificate.clone(), next.certificate.clone()];
            kept.rotation = Some(rotation(Phase::Spreading, next, hold));
        }
        Ok(kept)
    }

    /// The next phase, whatever the proxies say; `None`: there is no rotation.
    pub fn advance(&self, now: u64) -> Option<Self> {
        let rotation = self.rotation.as_ref()?;
        let mut kept = self.clone();
        let mut next = Rotation { since: now, ..rotation.clone() };
        kept.rotation = match (rotation.phase, &rotation.other) {
            (Phase::Spreading, Some(new)) => {
                kept.issuing = new.clone();
                kept.roots = vec![new.certificate.clone(), self.issuing.certificate.clone()];
                next.phase = Phase::Renewing;
                next.other = Some(self.issuing.clone());
                Some(next)
            }
            (Phase::Renewing, _) => {
                kept.issuing.crossed.clear();
                kept.roots = vec![self.issuing.certificate.clone()];
                next.phase = Phase::Retiring;
                next.other = None;
                Some(next)
            }
            (Phase::Spreading | Phase::Retiring, _) => {
                kept.last = if rotation.aborting { "aborted" } else { "done" }.to_owned();
                None
            }
        };
        Some(kept)
    }

    /// Goes back to the root before.
    ///
    /// # Errors
    /// In words: there is nothing to go back from, or no way back any more.
    pub fn abort(&self, now: u64) -> Result<Self, String> {
        let Some(rotation) = &self.rotation else { return Err("no rotation is under way".into()) };
        if rotation.aborting {
            return Err("the rotation is being taken back already".into());
        }
        let mut kept = self.clone();
        match (rotation.phase, &rotation.other) {
            (Phase::Spreading, _) => {
                // Nothing has been signed by it.
                kept.roots = vec![self.issuing.certificate.clone()];
                kept.rotation = Some(Rotation {
                    phase: Phase::Retiring,
                    other: None,
                    since: now,
                    hold: false,
                    aborting: true,
                    ..rotation.clone()
                });
            }
            (Phase::Renewing, Some(old)) if !rotation.repair => {
                kept.issuing = old.clone();
                kept.roots = vec![old.certificate.clone(), self.issuing.certificate.clone()];
                kept.rotation = Some(Rotation {
                    other: Some(self.issuing.clone()),
                    since: now,
                    hold: false,
                    aborting: true,
                    ..rotation.clone()
                });
            }
            (Phase::Renewing, _) => return Err("the root before has expired: there is nothing to go back to".into()),
            (Phase::Retiring, _) => {
                return Err("the old root is not trusted any more; let this end, and start a new rotation".into());
            }
        }
        Ok(kept)
    }

    /// Stays in its phase from now on, or goes on.
    ///
    /// # Errors
    /// In words: no rotation is under way.
    pub fn hold(&self, hold: bool) -> Result<Self, String> {
        let mut kept = self.clone();
        let rotation = kept.rotation.as_mut().ok_or("no rotation is under way")?;
        rotation.hold = hold;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn material(name: &str) -> Material {
        Material { certificate: format!("cert {name}"), key: format!("key {name}"), crossed: String::new() }
    }

    fn new() -> Material {
        Material { crossed: "new by old".into(), ..material("new") }
    }

    fn trusted(kept: &Kept) -> Vec<&str> {
        kept.roots.iter().map(|r| r.trim_start_matches("cert ")).collect()
    }

    #[test]
    fn a_rotation_goes_through_its_phases_and_survives_the_store_in_each() {
        let begun = Kept::new(material("old")).start(new(), false, false, 1).unwrap();
        let mut seen = Vec::new();
        let mut kept = begun;
        while let Some(rotation) = kept.rotation.clone() {
            assert_eq!(Kept::decode(&kept.encode()).unwrap(), kept);
            let issuer = kept.issuing.certificate.trim_start_matches("cert ").to_owned();
            seen.push((rotation.phase, issuer, trusted(&kept).join(" ")));
            kept = kept.advance(2).unwrap();
        }
        let is = |phase, issuer: &str, roots: &str| (phase, issuer.to_owned(), roots.to_owned());
        let expected = [
            is(Phase::Spreading, "old", "old new"),
            is(Phase::Renewing, "new", "new old"),
            is(Phase::Retiring, "new", "new"),
        ];
        assert_eq!(seen, expected, "the issuer's root is always trusted, and first");
        assert_eq!((kept.last.as_str(), &*kept.issuing.crossed), ("done", ""));
        assert!(kept.advance(3).is_none());
    }

    #[test]
    fn it_can_be_taken_back_as_long_as_the_old_root_is_trusted() {
        let spreading = Kept::new(material("old")).start(new(), false, true, 1).unwrap();
        let back = spreading.abort(2).unwrap();
        assert_eq!((trusted(&back), &*back.issuing.certificate), (vec!["old"], "cert old"));
        assert_eq!(back.advance(3).unwrap().last, "aborted");

        let renewing = spreading.advance(2).unwrap();
        let back = renewing.abort(3).unwrap();
        assert_eq!(trusted(&back), ["old", "new"], "certificates of the new one are still about");
        assert!(back.abort(4).is_err(), "not twice");
        let retiring = back.advance(4).unwrap();
        assert_eq!(trusted(&retiring), ["old"]);
        assert_eq!(retiring.advance(5).unwrap().last, "aborted");

        let retiring = renewing.advance(3).unwrap();
        assert!(retiring.abort(4).unwrap_err().contains("start a new rotation"));
        assert!(Kept::new(material("old")).abort(1).is_err());
    }

    #[test]
    fn one_at_a_time_and_it_can_be_held() {
        let kept = Kept::new(material("old")).start(new(), false, false, 1).unwrap();
        assert!(kept.start(new(), false, false, 2).unwrap_err().contains("--abort"));
        assert!(kept.hold(true).unwrap().rotation.unwrap().hold);
        assert!(Kept::new(material("old")).hold(true).is_err());
    }

    #[test]
    fn an_expired_issuer_is_exchanged_at_once() {
        let kept = Kept::new(material("old")).start(new(), true, false, 1).unwrap();
        assert_eq!((kept.rotation.as_ref().unwrap().phase, trusted(&kept)), (Phase::Renewing, vec!["new", "old"]));
        assert!(kept.abort(2).is_err(), "there is nothing to go back to");
    }

    #[test]
    fn a_phase_ends_when_all_that_it_waits_for_is_reported() {
        let none = Facts::default();
        for phase in Phase::ALL {
            assert!(none.allow(phase));
            assert!(!Facts { behind: 1, ..none }.allow(phase));
            assert!(!Facts { unaware: 1, ..none }.allow(phase));
        }
        assert!(!Facts { stale: 1, ..none }.allow(Phase::Renewing));
        assert!(Facts { stale: 1, ..none }.allow(Phase::Spreading), "nobody can have one of the new root yet");
    }

    #[test]
    fn what_earlier_versions_kept_is_read_and_written_alike() {
        let pem = "-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nB\n-----END PRIVATE KEY-----\n";
        let kept = Kept::decode(pem.as_bytes()).unwrap();
        assert!(kept.issuing.key.starts_with("-----BEGIN PRIVATE KEY"));
        assert_eq!(kept.encode(), pem.as_bytes());
        assert!(Kept::decode(b"{\"format\":3}").is_err() && Kept::decode(b"what").is_err());
    }
}
