//! What must hold whatever fails, and who was hurt.

use super::Scenario;
use crate::{
    services::{HOME_DEADLINE, Ledger},
    stats::Window,
    viewers::Report,
};
use serde::Serialize;

/// Plays in which every segment came.
const PLAYBACK: f64 = 0.999;
/// Home pages that came.
const HOME: f64 = 0.999;
/// Requests that reach billing for each one that `web` sent.
const AMPLIFICATION: f64 = 1.2;
/// Below this share of answers a kind of request counts as hurt.
const UNHURT: f64 = 0.999;

/// What was charged during one scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Billing {
    /// Charges.
    pub charges: u64,
    /// Requests with a key that had been charged.
    pub replays: u64,
    /// Charges for what had been charged before.
    pub double_charges: u64,
    /// Requests that `web` sent.
    pub sent: u64,
    /// Requests that reached billing; `None` when it was killed, and forgot them.
    pub reached: Option<u64>,
}

impl Billing {
    /// From the ledger before and after, what reached billing, and what callers sent.
    pub fn new(before: &Ledger, after: &Ledger, reached: Option<&Window>, sent: &Window) -> Self {
        Self {
            charges: after.charges.saturating_sub(before.charges),
            // Counts begin anew with a killed process; charges and doubles are read from its journal.
            replays: after.replays.saturating_sub(before.replays),
            double_charges: after.double_charges.saturating_sub(before.double_charges),
            sent: sent.of("call:billing").total(),
            reached: reached.map(|w| w.of("served").total()),
        }
    }

    /// Requests that reached billing for each one that was sent; 1 when none was.
    pub fn amplification(&self) -> Option<f64> {
        self.reached.map(|reached| if self.sent == 0 { 1.0 } else { reached as f64 / self.sent as f64 })
    }
}

/// What came of one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Its name.
    pub scenario: String,
    /// For people.
    pub what: String,
    /// With the mesh?
    pub mesh: bool,
    /// What viewers felt.
    pub felt: Report,
    /// What was charged.
    pub billing: Billing,
    /// What should have held and did not.
    pub broken: Vec<String>,
    /// Who was hurt: `login 0.0 %, …`.
    pub hurt: Vec<String>,
    /// The share (0 to 1) of the machine that other programs took meanwhile.
    pub others: f64,
    /// Which try this is; there is another one only when a promise broke while others took much of the machine.
    pub tries: u32,
}

impl Outcome {
    /// Judges.
    pub fn new(scenario: &Scenario, mesh: bool, felt: Report, billing: Billing) -> Self {
        Self {
            scenario: scenario.name.clone(),
            what: scenario.what.clone(),
            mesh,
            broken: broken(scenario, &felt, &billing),
            hurt: hurt(&felt),
            felt,
            billing,
            others: 0.0,
            tries: 1,
        }
    }
}

fn percent(share: f64) -> String {
    // Rounded down: 99.96 % must not be told as 100.
    format!("{:.1} %", (share * 1000.0).floor() / 10.0)
}

fn broken(scenario: &Scenario, felt: &Report, billing: &Billing) -> Vec<String> {
    let mut broken = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            broken.push(what);
        }
    };
    must(felt.plays > 0 && felt.of("home").requests > 0, "nobody came".into());
    must(felt.turned_away == 0, format!("{} viewers could not be let in", felt.turned_away));
    must(felt.playback_success >= PLAYBACK, format!("playback {}", percent(felt.playback_success)));
    must(felt.success("home") >= HOME, format!("home {}", percent(felt.success("home"))));
    let p99 = felt.of("home").p99_ms;
    must(p99 <= HOME_DEADLINE.as_secs_f64() * 1e3, format!("home p99 {p99:.0} ms"));
    must(billing.double_charges == 0, format!("{} double charges", billing.double_charges));
    let amplification = billing.amplification().filter(|_| scenario.judges_billing).unwrap_or(1.0);
    must(amplification <= AMPLIFICATION, format!("amplification {amplification:.2}"));
    broken
}

fn hurt(felt: &Report) -> Vec<String> {
    let mut hurt = Vec::new();
    for (kind, k) in &felt.kinds {
        let success = felt.success(kind);
        if k.requests > 0 && success < UNHURT {
            hurt.push(format!("{kind} {}", percent(success)));
        } else if k.p99_ms > 1000.0 {
            hurt.push(format!("{kind} p99 {:.1} s", k.p99_ms / 1000.0));
        }
    }
    if felt.home_not_personal > 0.01 {
        hurt.push(format!("home not personal {}", percent(felt.home_not_personal)));
    }
    if felt.rebuffers > 0 {
        hurt.push(format!("{} rebuffers", felt.rebuffers));
    }
    if felt.subscriptions_lost > 0 {
        hurt.push(format!("{} subscriptions lost", felt.subscriptions_lost));
    }
    hurt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Timeline;
    use std::time::Duration;

    fn felt(home_ms: u64, plays_lost: u64) -> Report {
        let t = Timeline::default();
        for _ in 0..1000 {
            t.record(1, "home", true, Duration::from_millis(home_ms));
        }
        for n in 0..1000 {
            t.record(1, "play", n >= plays_lost, Duration::from_secs(3));
        }
        Report::new(&t.window(0, 9))
    }

    fn scenario(name: &str) -> Scenario {
        super::super::all().into_iter().find(|s| s.name == name).unwrap()
    }

    #[test]
    fn what_is_promised_is_judged() {
        let s = scenario("recommendations-slow");
        assert_eq!(broken(&s, &felt(30, 1), &Billing::default()), Vec::<String>::new());
        assert_eq!(broken(&s, &felt(30, 2), &Billing::default()), ["playback 99.8 %"]);
        assert_eq!(broken(&s, &felt(900, 0), &Billing::default()).len(), 1);
        assert_eq!(broken(&s, &Report::default(), &Billing::default()).len(), 2);
    }

    #[test]
    fn charges_are_judged_where_billing_fails() {
        let doubled = Billing { double_charges: 1, ..Billing::default() };
        assert_eq!(broken(&scenario("nothing"), &felt(30, 0), &doubled), ["1 double charges"]);
        let amplified = Billing { sent: 10, reached: Some(13), ..Billing::default() };
        assert_eq!(broken(&scenario("billing-bursts"), &felt(30, 0), &amplified), ["amplification 1.30"]);
        let forgotten = Billing { reached: None, ..amplified };
        assert!(broken(&scenario("billing-dead"), &felt(30, 0), &forgotten).is_empty());
        assert!(broken(&scenario("nothing"), &felt(30, 0), &amplified).is_empty());
    }
}
