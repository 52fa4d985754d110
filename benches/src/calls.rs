//! System calls per request, by name: `perf trace -s` looks on for a second, while requests are counted.

use crate::{
    cli::Args,
    contestant::{Contestant, Failure, Kind},
    load::Clients,
    peers,
    results::{Calls, Mode, Results},
    scenario::Scenario,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeMap,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long it looks on.
const LASTS: Duration = Duration::from_secs(1);

/// The loads that are looked at.
const LOADS: [(Scenario, Mode); 6] = [
    (Scenario::Http1, Mode::Closed),
    (Scenario::Http1, Mode::Rate(2000)),
    (Scenario::Grpc, Mode::Closed),
    (Scenario::Stream, Mode::Closed),
    (Scenario::Large, Mode::Closed),
    (Scenario::Connect, Mode::Closed),
];

/// Looks at every contestant with proxies.
pub async fn measure(args: &Args, contestants: &[Contestant], results: &mut Results) -> Result<(), Failure> {
    let Some(perf) = peers::find("perf") else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    for (scenario, mode) in LOADS.into_iter().filter(|(scenario, _)| args.scenarios().contains(scenario)) {
        eprintln!("system calls: {scenario:?}, {mode}");
        for contestant in contestants.iter().filter(|contestant| contestant.kind != Kind::Direct) {
            let mut clients = Clients::connect(scenario, scenario.target(contestant)).await?;
            clients.closed(Duration::from_millis(200)).await?;
            let output = folder.path().join("calls");
            let watch = Watch::start(&perf, contestant, &output).await?;
            let outcome = match mode {
                Mode::Rate(rate) => clients.open(rate, LASTS).await?,
                _ => clients.closed(LASTS).await?,
            };
            watch.stop()?;
            let calls = parse(&std::fs::read_to_string(&output)?, outcome.done);
            if !calls.is_empty() {
                results.calls.insert((scenario, mode, contestant.kind), calls);
            }
        }
    }
    Ok(())
}

/// perf, looking on.
struct Watch(Child);

impl Watch {
    async fn start(perf: &Path, contestant: &Contestant, output: &Path) -> Result<Self, Failure> {
        let _ = std::fs::remove_file(output);
        let ids: Vec<_> = contestant.proxies.iter().map(|(_, process)| process.id().to_string()).collect();
        let mut command = Command::new(perf);
        command.args(["trace", "-s", "-m", "8192", "-p", &ids.join(","), "-o"]).arg(output);
        let watch = Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        // It opens its output when it has attached.
        let limit = Instant::now() + Duration::from_secs(10);
        while !output.exists() && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(watch)
    }

    fn stop(mut self) -> Result<(), Failure> {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT)?;
        self.0.wait()?;
        Ok(())
    }
}

/// perf-trace(1): a table for each thread, with name and count at the start of each line.
fn parse(summary: &str, done: u64) -> Calls {
    let mut sums = BTreeMap::<&str, u64>::new();
    for line in summary.lines().filter(|line| line.starts_with("   ")) {
        let mut fields = line.split_whitespace();
        let (Some(name), Some(Ok(count))) = (fields.next(), fields.next().map(str::parse::<u64>)) else { continue };
        *sums.entry(name).or_default() += count;
    }
    let mut calls: Calls =
        sums.into_iter().map(|(n, count)| (n.to_owned(), count as f64 / done.max(1) as f64)).collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_are_added() {
        let summary = "\n Summary of events:\n\n sleep (3017), 6 events, 85.7%\n\n   syscall            calls  errors  total\n                                     (msec)\n   --------------- --------  ------ --------\n   close                  2      0     0.007\n\n other (3018), 6 events\n\n   close                  2      0     0.007\n   read                  10      0     0.007\n";
        assert_eq!(parse(summary, 2), [("read".into(), 5.0), ("close".into(), 2.0)]);
    }
}
