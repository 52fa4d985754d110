//! Renewal against a certificate authority that can fail, in paused time.

use super::*;
use crate::tls::testing::{Authority as Root, DOMAIN, Wish as Leaf, id};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Signs as it is told to, and remembers when.
struct Fake {
    root: Root,
    start: (SystemTime, Instant),
    life: Duration,
    says: Mutex<Vec<Result<SpiffeId, SignError>>>,
    asked: Mutex<Vec<Duration>>,
}

impl Fake {
    fn new(life: Duration) -> Arc<Self> {
        Arc::new(Self {
            root: Root::new("root"),
            start: (whole(SystemTime::now()), Instant::now()),
            life,
            says: Mutex::default(),
            asked: Mutex::default(),
        })
    }

    fn now(&self) -> SystemTime {
        self.start.0 + self.start.1.elapsed()
    }
}

/// Certificates count in whole seconds.
fn whole(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

impl Authority for Arc<Fake> {
    async fn sign(&self, request: String, _: Option<Duration>) -> Result<Signed, SignError> {
        self.asked.lock().push(self.start.1.elapsed());
        let who = {
            let mut says = self.says.lock();
            if says.is_empty() { Ok(id("web")) } else { says.remove(0) }
        }?;
        let request = rcgen::CertificateSigningRequestParams::from_pem(&request).unwrap();
        let leaf = Leaf::of(&who).life(self.now() - Duration::from_secs(60), self.now() + self.life);
        Ok(Signed { chain: vec![self.root.sign(&leaf, &request.public_key)], roots: vec![self.root.root.clone()] })
    }
}

fn start(fake: &Arc<Fake>, store: Option<Store>) -> (Arc<Identity>, Arc<Metrics>, tokio::task::JoinHandle<()>) {
    let identity = Identity::new();
    let wish = Wish { life: Some(fake.life), domain: DOMAIN.parse().unwrap(), id: Some(id("web")) };
    let (clock, metrics) = (fake.clone(), Metrics::new(100));
    let renewal = Renewal {
        identity: identity.clone(),
        authority: fake.clone(),
        store,
        wish,
        metrics: metrics.clone(),
        now: move || clock.now(),
    };
    (identity, metrics, tokio::spawn(renewal.run()))
}

async fn until(identity: &Identity, met: impl Fn(&Identity) -> bool) {
    let mut changes = identity.changes();
    while !met(identity) {
        changes.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_ten_seconds_is_never_out_of_time() {
    let fake = Fake::new(Duration::from_secs(10));
    let (identity, _, task) = start(&fake, None);
    until(&identity, |i| i.is_ready(fake.now())).await;
    let mut serials = std::collections::BTreeSet::new();
    for _ in 0..600 {
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
        assert!(identity.is_ready(fake.now()));
        serials.insert(identity.current().unwrap().leaf().serial.clone());
    }
    assert!((7..=10).contains(&serials.len()), "{} certificates in a minute", serials.len());
    for pair in fake.asked.lock().windows(2) {
        let gap = (pair[1] - pair[0]).as_secs_f64();
        assert!((6.0..=8.5).contains(&gap), "{gap}");
    }
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn failures_pass_while_the_old_certificate_is_good() {
    let fake = Fake::new(Duration::from_secs(3600));
    let (identity, metrics, task) = start(&fake, None);
    until(&identity, |i| i.is_ready(fake.now())).await;
    let first = identity.current().unwrap().leaf().serial.clone();
    *fake.says.lock() = vec![Err(SignError::Unavailable("away".into())); 8];
    until(&identity, |i| i.current().unwrap().leaf().serial != first).await;
    assert!(fake.start.1.elapsed() < Duration::from_secs(3600));
    let asked = fake.asked.lock().clone();
    assert_eq!(asked.len(), 10);
    assert!(asked[1] > Duration::from_secs(2390), "the first renewal is at two thirds");
    assert!(asked.windows(2).skip(1).all(|p| p[1] - p[0] <= SLOWEST_RETRY));
    assert_eq!(metrics.certificate_failures.value(), 8);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn without_a_certificate_it_asks_often_but_not_in_a_loop() {
    let fake = Fake::new(Duration::from_secs(3600));
    *fake.says.lock() = vec![Err(SignError::Refused("bad token".into())); 20];
    let (identity, _, task) = start(&fake, None);
    until(&identity, |i| i.is_ready(fake.now())).await;
    let asked = fake.asked.lock().clone();
    assert!(asked.windows(2).all(|p| {
        let gap = p[1] - p[0];
        Duration::from_millis(50) <= gap && gap <= SLOWEST_URGENT_RETRY + Duration::from_millis(10)
    }));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_certificate_for_somebody_else_is_not_used() {
    let fake = Fake::new(Duration::from_secs(3600));
    *fake.says.lock() = vec![Ok(id("billing"))];
    let (identity, metrics, task) = start(&fake, None);
    until(&identity, |i| i.is_ready(fake.now())).await;
    assert_eq!(identity.current().unwrap().leaf().id, id("web"));
    assert_eq!(metrics.certificate_failures.value(), 1);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_restart_starts_without_the_authority() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("identity.pem"));
    let fake = Fake::new(Duration::from_secs(3600));
    let (identity, _, task) = start(&fake, Some(store.clone()));
    until(&identity, |i| i.is_ready(fake.now())).await;
    let serial = identity.current().unwrap().leaf().serial.clone();
    // Kept on a thread of its own: wait for the file, not for a time.
    while store.load().is_none() {
        tokio::task::yield_now().await;
    }
    task.abort();

    *fake.says.lock() = vec![Err(SignError::Unavailable("away".into())); 1000];
    let asked = fake.asked.lock().len();
    let (identity, _, task) = start(&fake, Some(store));
    until(&identity, |i| i.is_ready(fake.now())).await;
    assert_eq!(identity.current().unwrap().leaf().serial, serial);
    assert_eq!(fake.asked.lock().len(), asked, "nobody was asked");
    task.abort();
}

#[test]
fn retries_fit_into_what_is_left() {
    for failures in 0..40 {
        for random in [0.0, 0.5, 1.0] {
            let wait = retry(failures, Duration::from_secs(9), random);
            assert!(wait <= Duration::from_secs(3) && wait >= Duration::from_millis(50), "{wait:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bundle_of_another_issuer_brings_a_renewal_and_not_one_after_the_other_for_ever() {
    let fake = Fake::new(Duration::from_secs(24 * 3600));
    let (identity, _, task) = start(&fake, None);
    until(&identity, |i| i.is_ready(fake.now())).await;
    let (ours, other) = (fake.root.root.clone(), Root::new("other").root);
    let bundle = |roots: &[&rustls_pki_types::CertificateDer<'static>]| {
        Bundle::new(DOMAIN.parse().unwrap(), roots.iter().map(|r| (*r).clone()).collect()).unwrap()
    };
    identity.set_bundle(bundle(&[&ours, &other]));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(fake.asked.lock().len(), 1, "ours is the first: there is nothing to do");
    assert!(!identity.is_superseded());
    let changed = fake.start.1.elapsed();
    identity.set_bundle(bundle(&[&other, &ours]));
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = fake.asked.lock().clone();
    assert!(asked[1] - changed <= SPREAD, "{asked:?}");
    // This authority goes on with the old issuer, as a replica may that has not heard of the new one.
    assert_eq!(asked.len(), 1 + MOST_FOR_A_BUNDLE as usize, "{asked:?}");
    task.abort();
}
