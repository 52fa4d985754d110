//! The failures that there are.

use crate::{fault::Fault, platform::SERVICES, stage::Instance};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Nothing: what the others are measured against.
    Nothing,
    /// `kill -9` to the application; its sidecar stays.
    Kill,
    /// `kill -9` to the application and its sidecar.
    Lose,
    /// The application fails so, as long as it lasts.
    Fault(Fault),
    /// The application fails so every other second.
    Bursts(Fault),
    /// `web` sends so many events a second to `analytics`, from each instance.
    Flood {
        /// Events a second.
        per_second: u32,
    },
}

/// One failure.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// `recommendations-slow`
    pub name: String,
    /// For people.
    pub what: String,
    /// To whom.
    pub service: &'static str,
    /// To its first instance only.
    pub only_one: bool,
    /// What.
    pub action: Action,
    /// Whether charges are judged, too.
    pub judges_billing: bool,
}

impl Scenario {
    /// The names of the instances it is done to.
    pub fn targets(&self, all: &[Instance]) -> Vec<String> {
        let of_service = all.iter().filter(|i| i.service.name == self.service).map(|i| i.name.clone());
        of_service.take(if self.only_one { 1 } else { usize::MAX }).collect()
    }
}

/// Services that must be able to fail as a whole without harm to playback or home.
const OPTIONAL: [&str; 4] = ["recommendations", "profiles", "analytics", "billing"];

/// All failures, in the order in which they are run.
pub fn all() -> Vec<Scenario> {
    let one = |name: String, what: String, service, only_one, action| Scenario {
        name,
        what,
        service,
        only_one,
        action,
        judges_billing: service == "billing",
    };
    let failing = |error_percent| Fault { error_percent, ..Fault::default() };
    let slow = Fault { delay_ms: 5000, ..Fault::default() };
    let mut all = vec![one("nothing".into(), "nothing fails".into(), "web", false, Action::Nothing)];
    for s in SERVICES.iter().filter(|s| s.replicas > 1) {
        let what = format!("one {} of {} killed", s.name, s.replicas);
        all.push(one(format!("{}-one-killed", s.name), what, s.name, true, Action::Kill));
        let what = format!("one {} of {} lost with its sidecar", s.name, s.replicas);
        all.push(one(format!("{}-one-lost", s.name), what, s.name, true, Action::Lose));
    }
    for name in OPTIONAL {
        let each = [
            ("dead", "dead", Action::Kill),
            ("slow", "5 s slow", Action::Fault(slow)),
            ("failing", "failing at 100 %", Action::Fault(failing(100.0))),
        ];
        for (word, what, action) in each {
            all.push(one(format!("{name}-{word}"), format!("all of {name} {what}"), name, false, action));
        }
    }
    let what = "billing fails 80 % in bursts, half of that after the charge";
    all.push(one("billing-bursts".into(), what.into(), "billing", false, Action::Bursts(failing(80.0))));
    let what = "1,000 events a second to analytics, which can take 400";
    all.push(one("analytics-flood".into(), what.into(), "analytics", false, Action::Flood { per_second: 500 }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_failure_asked_for_is_there_once() {
        let names: Vec<_> = all().into_iter().map(|s| s.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for service in ["web", "catalog", "recommendations", "playback", "video"] {
            assert!(names.contains(&format!("{service}-one-killed")));
            assert!(names.contains(&format!("{service}-one-lost")));
        }
        for service in OPTIONAL {
            for word in ["dead", "slow", "failing"] {
                assert!(names.contains(&format!("{service}-{word}")));
            }
        }
        assert!(names.contains(&"billing-bursts".into()) && names.contains(&"analytics-flood".into()));
    }
}
