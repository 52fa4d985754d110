//! What the services promise, over loopback: ranges, charges, fallbacks, faults.

mod common;

use bytes::Bytes;
use common::{Platform, get, instance, json, post};
use std::{collections::BTreeMap, time::Instant};
use weir_demo::{
    peers::Peers,
    services::video::{SEGMENT_BYTES, bytes_at},
};

fn nobody() -> Peers {
    Peers::Direct(BTreeMap::new())
}

#[tokio::test]
async fn a_segment_comes_whole_and_in_ranges() {
    let video = instance("video", nobody(), None).await;
    let whole = get(video.address, "/segments/t-3/7", &[]).await;
    assert_eq!(whole.status(), 200);
    assert_eq!(whole.headers()["accept-ranges"], "bytes");
    assert_eq!(whole.body().len() as u64, SEGMENT_BYTES);
    assert!(*whole.body() == bytes_at("t-3", 7, 0..SEGMENT_BYTES), "the bytes are not those of the segment");

    let part = get(video.address, "/segments/t-3/7", &[("range", "bytes=100-299999")]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 100-299999/{SEGMENT_BYTES}"));
    assert_eq!(part.headers()["content-length"], "299900");
    assert!(*part.body() == whole.body().slice(100..300_000));

    let last = get(video.address, "/segments/t-3/7", &[("range", "bytes=-10")]).await;
    assert_eq!(*last.body(), whole.body().slice(SEGMENT_BYTES as usize - 10..));
    let beyond = get(video.address, "/segments/t-3/7", &[("range", "bytes=99999999-")]).await;
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{SEGMENT_BYTES}"));
    assert_eq!(get(video.address, "/segments/nothing/7", &[]).await.status(), 404);
}

#[tokio::test]
async fn the_same_key_is_charged_once_and_the_book_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = Some(folder.path().to_owned());
    let billing = instance("billing", nobody(), data.clone()).await;
    let body = r#"{"user":"u1","subscription":"s1","cents":999}"#;
    let key = [("idempotency-key", "k1")];
    assert_eq!(post(billing.address, "/charges", body, &[]).await.status(), 400);
    assert_eq!(post(billing.address, "/charges", body, &key).await.status(), 201);
    let again = post(billing.address, "/charges", body, &key).await;
    assert_eq!(again.status(), 200);
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(json(&again)["number"], 1);
    let other = r#"{"user":"u1","subscription":"s1","cents":1}"#;
    assert_eq!(post(billing.address, "/charges", other, &key).await.status(), 422);
    billing.stop().await;

    // As after a kill in the middle of a line.
    let path = folder.path().join("billing.jsonl");
    let mut journal = std::fs::read(&path).unwrap();
    journal.extend_from_slice(br#"{"key":"cut"#);
    std::fs::write(&path, journal).unwrap();

    let billing = instance("billing", nobody(), data).await;
    assert_eq!(post(billing.address, "/charges", body, &key).await.status(), 200);
    assert_eq!(post(billing.address, "/charges", body, &[("idempotency-key", "k2")]).await.status(), 201);
    let ledger = json(&get(billing.admin.unwrap(), "/ledger", &[]).await);
    // Another key for the same subscription is what a double charge is.
    assert_eq!((&ledger["charges"], &ledger["replays"], &ledger["double_charges"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 2);
}

#[tokio::test]
async fn home_is_personal_and_falls_back_to_popular_titles() {
    let mut platform = Platform::start(None).await;
    let home = get(platform.address("web"), "/home?user=u7", &[]).await;
    assert_eq!(home.status(), 200);
    let page = json(&home);
    assert_eq!((&page["source"], &page["name"]), (&"personal".into(), &"Viewer u7".into()));
    assert_eq!(page["recommended"].as_array().unwrap().len(), 10);

    platform.fault("recommendations", r#"{"error_percent":100}"#).await;
    assert_eq!(json(&get(platform.address("web"), "/home?user=u7", &[]).await)["source"], "popular");
    platform.stop("recommendations").await;
    let page = json(&get(platform.address("web"), "/home?user=u7", &[]).await);
    assert_eq!(page["source"], "popular");
    assert_eq!(page["name"], "Viewer u7");
}

#[tokio::test]
async fn a_slow_service_costs_no_more_than_the_callers_timeout() {
    let platform = Platform::start(None).await;
    platform.fault("recommendations", r#"{"delay_ms":60000}"#).await;
    let start = Instant::now();
    let page = json(&get(platform.address("web"), "/home?user=u7", &[]).await);
    assert_eq!(page["source"], "popular");
    // The application gives recommendations the whole of its deadline: 800 ms.
    assert!((800..5000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn errors_reach_the_viewer_where_there_is_no_other_way() {
    let mut platform = Platform::start(None).await;
    let web = platform.address("web");
    platform.fault("catalog", r#"{"error_percent":100,"status":500}"#).await;
    assert_eq!(get(web, "/home?user=u7", &[]).await.status(), 502);
    platform.fault("profiles", r#"{"error_percent":100}"#).await;
    assert_eq!(post(web, "/login", r#"{"user":"u7"}"#, &[]).await.status(), 502);
    platform.stop("playback").await;
    assert_eq!(get(web, "/play/t-1", &[]).await.status(), 502);
    // Nobody has to know what becomes of a heartbeat.
    platform.stop("analytics").await;
    let beat = r#"{"user":"u7","title":"t-1","position_ms":0}"#;
    assert_eq!(post(web, "/heartbeat", beat, &[]).await.status(), 202);
}

#[tokio::test]
async fn the_player_gets_manifest_and_segments_through_web() {
    let platform = Platform::start(None).await;
    let web = platform.address("web");
    let manifest = json(&get(web, "/play/t-4?count=2", &[]).await);
    assert_eq!(manifest["segments"].as_array().unwrap().len(), 2);
    assert_eq!(get(web, "/play/t-100000", &[]).await.status(), 404);
    let path = manifest["segments"][1].as_str().unwrap().to_owned();
    let part = get(web, &path, &[("range", "bytes=0-65535")]).await;
    assert_eq!(part.status(), 206);
    assert!(*part.body() == bytes_at("t-4", 1, 0..65536));
    let paid =
        post(web, "/subscribe", r#"{"user":"u","subscription":"s","cents":1}"#, &[("idempotency-key", "k")]).await;
    assert_eq!(paid.status(), 201);
    let calls = json(&get(platform.admin("web"), "/stats", &[]).await);
    assert_eq!(calls["series"]["call:video"]["ok"], 1);
    assert_eq!(calls["series"]["call:playback"]["ok"], 2);
}

#[tokio::test]
async fn faults_are_told_and_bad_ones_refused() {
    let catalog = instance("catalog", nobody(), None).await;
    let admin = catalog.admin.unwrap();
    assert_eq!(post(admin, "/__fault", r#"{"delay_ms":1,"error_percent":100}"#, &[]).await.status(), 200);
    assert_eq!(get(catalog.address, "/popular", &[]).await.status(), 503);
    assert_eq!(json(&get(admin, "/__fault", &[]).await)["error_percent"], 100.0);
    assert_eq!(post(admin, "/__fault", r#"{"error_percent":101}"#, &[]).await.status(), 400);
    assert_eq!(post(admin, "/__fault", r#"{"delay":1}"#, &[]).await.status(), 422);
    assert_eq!(post(admin, "/__fault", "{}", &[]).await.status(), 200);
    assert_eq!(get(catalog.address, "/popular", &[]).await.status(), 200);
    assert_eq!(get(admin, "/healthz", &[]).await.body(), &Bytes::from_static(b"ok\n"));
}

#[tokio::test]
async fn a_flood_fills_analytics() {
    let platform = Platform::start(None).await;
    let web = platform.admin("web");
    assert_eq!(post(web, "/__flood", r#"{"per_second":100000,"seconds":1}"#, &[]).await.status(), 400);
    assert_eq!(post(web, "/__flood", r#"{"per_second":500,"seconds":1}"#, &[]).await.status(), 202);
    let full = async {
        loop {
            let told = json(&get(platform.admin("analytics"), "/stats", &[]).await);
            if told["counts"]["events"].as_u64().unwrap_or_default() > 50 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), full).await.unwrap();
}
