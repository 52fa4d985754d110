//! Viewers against a platform without a mesh: what they report is what was done to them.

mod common;

use common::{Platform, get, json};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use weir_demo::{
    peers::Peers,
    stats::Timeline,
    viewers::{self, Options, Report},
};

async fn visit(platform: &Platform) -> Report {
    let timeline = Arc::new(Timeline::default());
    let options =
        Options { rate: 20.0, seed: 3, segments: 2, segment_bytes: 20_000, length: Some(Duration::from_secs(1)) };
    let peers = Peers::Direct(platform.peers.clone());
    viewers::run(options, peers, timeline.clone(), CancellationToken::new()).await;
    Report::new(&timeline.window(0, u64::MAX))
}

#[tokio::test]
async fn all_is_well_when_all_is_well() {
    let platform = Platform::start(None).await;
    let report = visit(&platform).await;
    println!("{report}");
    assert!(report.plays > 5);
    for kind in ["login", "home", "manifest", "segment", "heartbeat"] {
        assert!(report.of(kind).requests >= report.plays, "{kind}: {report}");
        assert_eq!(report.of(kind).failed, 0, "{kind}: {report}");
    }
    assert_eq!((report.failed_starts, report.turned_away, report.subscriptions_lost), (0, 0, 0));
    assert!(report.home_not_personal.abs() < f64::EPSILON);
    let ledger = json(&get(platform.admin("billing"), "/ledger", &[]).await);
    assert_eq!(ledger["charges"], report.of("subscribe").requests);
    assert_eq!(ledger["double_charges"], 0);
}

#[tokio::test]
async fn every_failure_is_felt_where_it_should_be() {
    let platform = Platform::start(None).await;
    platform.fault("video", r#"{"error_percent":100}"#).await;
    platform.fault("recommendations", r#"{"error_percent":100}"#).await;
    // Half of the errors come after the charge: a second try with the same key must not charge again.
    platform.fault("billing", r#"{"error_percent":70}"#).await;
    let report = visit(&platform).await;
    println!("{report}");
    assert_eq!(report.failed_starts, report.plays);
    assert!(report.playback_success.abs() < f64::EPSILON);
    assert_eq!(report.of("home").failed, 0);
    assert!((report.home_not_personal - 1.0).abs() < f64::EPSILON);
    let ledger = json(&get(platform.admin("billing"), "/ledger", &[]).await);
    assert_eq!(ledger["double_charges"], 0);
}
