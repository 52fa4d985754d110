//! What a request costs in instructions and allocations: counts of valgrind's callgrind, which no other work on the
//! machine changes.

use crate::{
    application::Application,
    contestant::{Contestant, Failure, Kind},
    load::Clients,
    peers::{self, weir},
    scenario::Scenario,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What is asked for, one request after the other, so that every run does the same.
pub const LOADS: [Scenario; 3] = [Scenario::Http1, Scenario::Grpc, Scenario::Connect];

/// Requests that are counted, after as many that are not.
const REQUESTS: u64 = 400;

/// Of both sidecars together, per request.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Instructions, without those of the cryptography, whose code depends on the processor.
    pub instructions: f64,
    /// Instructions of the cryptography.
    pub cryptography: f64,
    /// Allocations.
    pub allocations: f64,
}

/// How many requests are under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtOnce {
    /// One after the other: every run does the same.
    One,
    /// As many as the shape of the load says.
    Many,
}

/// Counts each load on a pair of Weir's sidecars under callgrind; `None` without valgrind.
pub async fn count(binaries: &weir::Binaries) -> Result<Option<BTreeMap<Scenario, Counts>>, Failure> {
    count_of(binaries, Kind::Weir, &LOADS, AtOnce::One, REQUESTS).await
}

/// Counts loads on a pair of this kind, after `warm` requests that are not counted.
pub async fn count_of(
    binaries: &weir::Binaries,
    kind: Kind,
    loads: &[Scenario],
    at_once: AtOnce,
    warm: u64,
) -> Result<Option<BTreeMap<Scenario, Counts>>, Failure> {
    let (Some(valgrind), Some(vgdb)) = (peers::find("valgrind"), peers::find("vgdb")) else { return Ok(None) };
    let folder = tempfile::tempdir()?;
    let application = Application::start()?;
    let binaries = weir::Binaries { wrapper: wrapper(&valgrind, folder.path()), ..binaries.clone() };
    let pair = weir::start(&binaries, application.address, kind).await?;
    let requests = if at_once == AtOnce::One { REQUESTS } else { warm };
    let mut counted = BTreeMap::new();
    for scenario in loads.iter().copied() {
        let target = scenario.target(&pair);
        let mut clients = match at_once {
            AtOnce::One => Clients::one(scenario, target).await?,
            AtOnce::Many => Clients::connect(scenario, target).await?,
        };
        right(clients.exactly(warm).await?.failed)?;
        command(&vgdb, &pair, "zero")?;
        right(clients.exactly(requests).await?.failed)?;
        command(&vgdb, &pair, "dump")?;
        let mut sum = Counts::default();
        for (_, process) in &pair.proxies {
            let dump = newest(folder.path(), process.id())?;
            if let Some(kept) = std::env::var_os("WEIR_BENCH_DUMPS") {
                let file = format!("{kind:?}-{}-{}.callgrind", scenario.name(), process.id());
                fs::copy(&dump, Path::new(&kept).join(file))?;
            }
            let counts = parse(&fs::read_to_string(&dump)?);
            sum.instructions += counts.instructions / requests as f64;
            sum.cryptography += counts.cryptography / requests as f64;
            sum.allocations += counts.allocations / requests as f64;
        }
        counted.insert(scenario, sum);
    }
    Ok(Some(counted))
}

/// What a pair of sidecars runs: their functions as the linker knows them.
#[derive(Debug, Default)]
pub struct Functions {
    /// Until they are ready, and for the first requests.
    pub start: BTreeSet<String>,
    /// For every request.
    pub requests: BTreeSet<String>,
}

/// Looks which functions of the program run; `None` without valgrind.
pub async fn functions(binaries: &weir::Binaries, loads: &[Scenario]) -> Result<Option<Functions>, Failure> {
    let (Some(valgrind), Some(vgdb)) = (peers::find("valgrind"), peers::find("vgdb")) else { return Ok(None) };
    let folder = tempfile::tempdir()?;
    let application = Application::start()?;
    let mut wrapper = wrapper(&valgrind, folder.path());
    wrapper.insert(wrapper.len() - 1, "--demangle=no".into());
    let pair = weir::start(&weir::Binaries { wrapper, ..binaries.clone() }, application.address, Kind::Weir).await?;
    let mut functions = Functions::default();
    for scenario in loads.iter().copied() {
        let mut clients = Clients::one(scenario, scenario.target(&pair)).await?;
        for (requests, found) in [(3, &mut functions.start), (20, &mut functions.requests)] {
            right(clients.exactly(requests).await?.failed)?;
            command(&vgdb, &pair, "dump")?;
            for (_, process) in &pair.proxies {
                found.extend(named(&fs::read_to_string(newest(folder.path(), process.id())?)?));
            }
        }
    }
    Ok(Some(functions))
}

/// The functions that a dump has costs of.
fn named(dump: &str) -> BTreeSet<String> {
    let mut names = BTreeMap::new();
    let mut ran = BTreeSet::new();
    for line in dump.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            let function = name(&mut names, function);
            // `f'2` is how a recursion is told from the first call.
            ran.insert(function.split('\'').next().unwrap_or(function).to_owned());
        } else if let Some(called) = line.strip_prefix("cfn=") {
            name(&mut names, called);
        }
    }
    ran
}

/// How the sidecars are started. The C library is told to take its plain string functions, not the processor's best.
fn wrapper(valgrind: &Path, folder: &Path) -> Vec<OsString> {
    let output = format!("--callgrind-out-file={}/%p", folder.display());
    let tunables = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-SSSE3,-SSE4_2";
    let mut words: Vec<OsString> = vec!["env".into(), tunables.into(), valgrind.into()];
    words.extend(["--tool=callgrind", "--dump-line=no", "--compress-pos=no", &output, "--"].map(Into::into));
    words
}

fn right(failed: u64) -> Result<(), Failure> {
    if failed == 0 { Ok(()) } else { Err(format!("{failed} requests failed under valgrind").into()) }
}

/// Tells both sidecars' valgrind something.
fn command(vgdb: &Path, pair: &Contestant, what: &str) -> Result<(), Failure> {
    for (_, process) in &pair.proxies {
        let said = Command::new(vgdb).arg(format!("--pid={}", process.id())).arg(what).output()?;
        if !said.status.success() {
            return Err(format!("valgrind does not obey: {}", String::from_utf8_lossy(&said.stderr)).into());
        }
    }
    Ok(())
}

/// Dumps are numbered: `<pid>.1`, `<pid>.2` and so on.
fn newest(folder: &Path, process: u32) -> Result<PathBuf, Failure> {
    let number = |path: &PathBuf| -> Option<u32> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(&format!("{process}."))?.parse().ok()
    };
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let file = files.filter_map(|path| Some((number(&path)?, path))).max().ok_or("valgrind wrote nothing")?;
    Ok(file.1)
}

/// The format is in valgrind's manual, "Callgrind Format Specification".
fn parse(dump: &str) -> Counts {
    let mut names = BTreeMap::<&str, &str>::new();
    let mut counts = Counts::default();
    let (mut cryptography, mut allocates, mut of_a_call) = (false, false, false);
    for line in dump.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            cryptography = is_cryptography(name(&mut names, function));
        } else if let Some(function) = line.strip_prefix("cfn=") {
            allocates = is_allocation(name(&mut names, function));
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let calls = calls.split(' ').next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
            counts.allocations += if allocates { calls } else { 0.0 };
            // The next line says what the call cost, which is said again where it was spent.
            of_a_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            let cost = line.split(' ').nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
            match (std::mem::take(&mut of_a_call), cryptography) {
                (true, _) => {}
                (false, true) => counts.cryptography += cost,
                (false, false) => counts.instructions += cost,
            }
        }
    }
    counts
}

/// `(12) name` says what the name of 12 is, `(12)` alone refers to it.
fn name<'a>(names: &mut BTreeMap<&'a str, &'a str>, said: &'a str) -> &'a str {
    match said.split_once(' ') {
        Some((id, name)) => {
            names.insert(id, name);
            name
        }
        None => names.get(said).copied().unwrap_or(said),
    }
}

fn is_cryptography(function: &str) -> bool {
    function.starts_with("aws_lc_") || function.contains("gcm_") || function.contains("aesni_")
}

fn is_allocation(function: &str) -> bool {
    // `malloc'2` is how a recursion is told from the first call.
    let function = function.split('\'').next().unwrap_or(function);
    const SYSTEM: [&str; 6] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];
    const MIMALLOC: [&str; 6] =
        ["mi_malloc", "mi_zalloc", "mi_realloc", "mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"];
    SYSTEM.contains(&function) || MIMALLOC.contains(&function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_costs_are_added_and_those_of_calls_are_not() {
        let dump = "events: Ir\n\nfn=(1) main\n0 10\ncfn=(2) malloc\ncalls=3 0\n0 300\n0 5\n\nfn=(2)\n0 300\n\nfn=(3) aws_lc_0_1_seal\n0 7\n";
        let counts = parse(dump);
        assert_eq!(counts, Counts { instructions: 315.0, cryptography: 7.0, allocations: 3.0 });
    }
}
