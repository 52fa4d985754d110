//! What a disk, a second process and a `kill -9` do to the embedded store.

use super::{Batch, Embedded, Error, MetaExpect, Store, conformance::service};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};
use weir_config::resources::{Key, Kind};

const DIRECTORY: &str = "WEIR_TEST_STORE_DIRECTORY";
const ROUNDS: usize = 12;

/// The other process: writes until it is killed, and says on stdout what is on disk. Does nothing in an ordinary run.
#[test]
fn writer_process() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let store = Embedded::open(Path::new(&directory)).unwrap();
    let mut out = std::io::stdout();
    for n in store.snapshot().version() + 1.. {
        // Two documents and an entry, which must be found together: the version is in both.
        let port = u16::try_from(n % 60_000).unwrap() + 1;
        let name = format!("n{}", n % 50);
        let applied = store.apply(&Batch::put_all([service("last", port), service(&name, port)])).unwrap();
        assert_eq!(applied.version, n);
        store.set_meta("last", MetaExpect::Any, Some(&n.to_be_bytes())).unwrap();
        writeln!(out, "written {n}").unwrap();
        out.flush().unwrap();
    }
}

struct Writer(Child);

impl Writer {
    fn start(directory: &Path) -> Self {
        let test = "store::crash::writer_process";
        let child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Reads what it acknowledged, kills it after so many lines, and returns the last number that it got out.
    fn killed_after(mut self, lines: usize) -> u64 {
        let mut out = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let number = |line: String| line.rsplit_once("written ").and_then(|(_, n)| n.trim().parse::<u64>().ok());
        let mut last = 0;
        for n in out.by_ref().map_while(Result::ok).filter_map(number).take(lines) {
            last = n;
        }
        // The writer is somewhere in its next transaction; how far depends on the scheduler and on the round.
        let spin = rand::random_range(0..200_000u32);
        (0..spin).for_each(|n| _ = std::hint::black_box(n));
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        out.map_while(Result::ok).filter_map(number).last().unwrap_or(last)
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0..ROUNDS {
        let acknowledged = Writer::start(directory.path()).killed_after(1 + rand::random_range(0..15));
        assert!(acknowledged > before, "round {round}: the writer got nowhere ({acknowledged} after {before})");
        let store = Embedded::open(directory.path()).unwrap();
        let snapshot = store.snapshot();
        let version = snapshot.version();
        assert!(version == acknowledged || version == acknowledged + 1, "{version} after {acknowledged}");
        let last = snapshot.find(&Key::new(Kind::Service, "demo", "last")).unwrap();
        let name = format!("n{}", version % 50);
        let pair = snapshot.find(&Key::new(Kind::Service, "demo", &name)).unwrap();
        assert_eq!((last.resource_version, pair.resource_version), (version, version), "both or none");
        let meta = u64::from_be_bytes(store.meta("last").unwrap().unwrap().try_into().unwrap());
        assert!((acknowledged..=version).contains(&meta), "{meta}");
        assert!(snapshot.iter().all(|(_, s)| s.resource_version <= version));
        before = acknowledged;
    }
}

#[test]
fn state_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let first = Embedded::open(directory.path()).unwrap();
    first.apply(&Batch::put_all([service("web", 80), service("api", 80)])).unwrap();
    first.set_meta("ca/key", MetaExpect::Absent, Some(b"secret")).unwrap();
    let before: Vec<_> = first.snapshot().iter().map(|(k, s)| (k.clone(), s.clone())).collect();
    drop(first);
    let again = Embedded::open(directory.path()).unwrap();
    let after: Vec<_> = again.snapshot().iter().map(|(k, s)| (k.clone(), s.clone())).collect();
    assert_eq!(before, after);
    assert_eq!(again.snapshot().version(), 1);
    assert_eq!(again.meta("ca/key").unwrap().as_deref(), Some(&b"secret"[..]));
}

#[test]
fn only_its_owner_may_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = Embedded::open(directory.path()).unwrap().path().to_owned();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(Embedded::open(directory.path()).unwrap());
    assert_eq!(mode(&path), 0o600, "rights that someone gave are taken away");
}

#[test]
fn a_second_process_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let writer = Writer::start(directory.path());
    let mut writer = writer;
    let mut lines = BufReader::new(writer.0.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.contains("written")));
    let error = Embedded::open(directory.path()).err().unwrap();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    writer.0.kill().unwrap();
    writer.0.wait().unwrap();
    Embedded::open(directory.path()).unwrap();
}

#[test]
fn damage_is_an_error_and_not_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(directory.path()).unwrap();
    store.apply(&Batch::put_all([service("web", 80)])).unwrap();
    let path = store.path().to_owned();
    drop(store);
    let good = fs::read(&path).unwrap();
    fs::write(&path, b"this is no database, it is a text of some length").unwrap();
    assert!(Embedded::open(directory.path()).is_err());
    let mut bad = good.clone();
    let needle = bad.windows(8).position(|w| w == b"document").unwrap();
    bad[needle..needle + 64].fill(0xff);
    fs::write(&path, bad).unwrap();
    let error = Embedded::open(directory.path()).err().unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("restore it from a backup"), "{error}");
}
