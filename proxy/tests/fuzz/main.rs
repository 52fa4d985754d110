//! Runs the fuzz targets on stable: every file of their corpora, then mutations of them, drawn from a seed.
//!
//! `WEIR_FUZZ` is how many mutations each gets (5,000 unless it says otherwise), `WEIR_SEED` the seed. For hours and with
//! coverage there is `cargo fuzz run -s none <target>` in `proxy`.

mod targets;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{fs, panic, path::PathBuf};

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no corpus for {target}");
    paths.into_iter().map(|path| fs::read(path).expect("a file")).collect()
}

/// One to four small changes: what parsers stumble over.
fn mutated(rng: &mut SmallRng, corpus: &[Vec<u8>]) -> Vec<u8> {
    const SPLINTERS: [&[u8]; 16] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b":",
        b" ",
        b"\t",
        b",",
        b";",
        b"0",
        b"ffffffffffffffff",
        b"\r\n\r\n",
        b"\xff",
        b"-",
        b"%",
        b"Transfer-Encoding: chunked\r\n",
    ];
    let mut data = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=data.len());
        match rng.random_range(0..7) {
            0 if at < data.len() => data[at] ^= 1 << rng.random_range(0..8),
            1 if at < data.len() => data[at] = rng.random(),
            2 if at < data.len() => {
                data.remove(at);
            }
            3 => data.truncate(at),
            4 => {
                let end = data.len().min(at + rng.random_range(1..30));
                let copy = data[at..end].to_vec();
                data.splice(at..at, copy);
            }
            5 => {
                let other = &corpus[rng.random_range(0..corpus.len())];
                let from = rng.random_range(0..=other.len());
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            _ => {
                let splinter = SPLINTERS[rng.random_range(0..SPLINTERS.len())];
                data.splice(at..at, splinter.iter().copied());
            }
        }
    }
    data
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|v| v.parse().ok()).unwrap_or(usual)
}

fn run(name: &str) {
    let (_, target) = targets::ALL.into_iter().find(|(n, _)| *n == name).expect("a target");
    let corpus = corpus(name);
    let attempt = |data: &[u8]| {
        if panic::catch_unwind(|| target(data)).is_err() {
            panic!("{name} fails on b\"{}\"", data.escape_ascii());
        }
    };
    corpus.iter().for_each(|data| attempt(data));
    let mut rng = SmallRng::seed_from_u64(number("WEIR_SEED", 1));
    for _ in 0..number("WEIR_FUZZ", 5_000) {
        attempt(&mutated(&mut rng, &corpus));
    }
}

macro_rules! fuzz {
    ($($name:ident)+) => { $(#[test] fn $name() { run(stringify!($name)); })+ };
}

fuzz! { request_head response_head chunked_body timeout traceparent rewrite documents client_hello resource }
