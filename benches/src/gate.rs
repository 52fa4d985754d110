//! The gate: instructions and allocations per request may not grow unnoticed.
//!
//! `benches/baseline.json` holds what they were; CI compares (`weir-bench gate`), and whoever makes them grow on purpose
//! stores the new ones (`weir-bench gate --store`) with the change that does.

use crate::{
    callgrind::{self, Counts},
    contestant::Failure,
    peers::weir,
    sizes::{self, Size},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, process::Command};

/// How much more than the baseline passes, in percent.
const TOLERANCE: f64 = 4.0;
/// The same, when another compiler built what is compared.
const TOLERANCE_OF_ANOTHER_COMPILER: f64 = 15.0;
/// Of allocations, this much more passes whatever the percentage: what happens now and then, not on every request.
const FEW: f64 = 0.5;

/// Compares with the baseline.
#[derive(Debug, clap::Args)]
pub struct Gate {
    /// Store what is counted as the new baseline instead.
    #[arg(long)]
    store: bool,
    /// Where the baseline is [default: benches/baseline.json of the checkout].
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Compare meshes that are large in these ways [default: all] with small ones instead.
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..)]
    sizes: Option<Vec<Size>>,
}

/// Counts, and compares or stores.
pub fn run(gate: &Gate) -> Result<(), Failure> {
    let binaries = weir::Binaries::find()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(sizes) = &gate.sizes {
        return runtime.block_on(sizes::run(&binaries, sizes));
    }
    let counted = runtime.block_on(callgrind::count(&binaries))?.ok_or("valgrind is not installed: run tests/setup")?;
    let file = gate.baseline.clone().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json").into());
    let compiler = compiler();
    if gate.store {
        let loads: BTreeMap<_, _> = counted.iter().map(|(load, counts)| (load.name(), value(counts))).collect();
        let text = serde_json::to_string_pretty(&json!({"compiler": compiler, "perRequest": loads}))?;
        std::fs::write(&file, text + "\n")?;
        println!("stored in {}", file.display());
        return Ok(());
    }
    let baseline: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let same = baseline["compiler"].as_str() == Some(&compiler);
    let tolerance = if same { TOLERANCE } else { TOLERANCE_OF_ANOTHER_COMPILER };
    if !same {
        println!("The baseline is of {}, this of {compiler}: {tolerance} % more passes.", baseline["compiler"]);
    }
    let mut worse = Vec::new();
    for (load, counts) in &counted {
        let before = &baseline["perRequest"][load.name()];
        for (what, now, few) in [("instructions", counts.instructions, 0.0), ("allocations", counts.allocations, FEW)] {
            let Some(before) = before[what].as_f64() else { return Err("the baseline misses a figure".into()) };
            let (line, is_worse) = compare(&format!("{}: {what}", load.name()), before, now, tolerance, few);
            println!("{line}");
            worse.extend(is_worse.then_some(line));
        }
    }
    if worse.is_empty() {
        return Ok(());
    }
    Err(format!(
        "a request costs more than it did:\n  {}\nEither make it cheaper, or, when what it buys is worth it, store the \
         new baseline with the change and say in its message what it buys: benches/gate --store",
        worse.join("\n  ")
    )
    .into())
}

/// What to say, and whether it is more than passes.
fn compare(what: &str, before: f64, now: f64, tolerance: f64, few: f64) -> (String, bool) {
    let change = (now / before - 1.0) * 100.0;
    let worse = now > before * (1.0 + tolerance / 100.0) + few;
    let better = now < before * (1.0 - tolerance / 100.0) - few;
    let verdict = match (worse, better) {
        (true, _) => format!("more than the {tolerance} % that pass"),
        (_, true) => "less: store it, so that it stays (benches/gate --store)".into(),
        _ => "passes".into(),
    };
    (format!("{what} per request {now:.1}, were {before:.1} ({change:+.1} %): {verdict}"), worse)
}

fn value(counts: &Counts) -> Value {
    let round = |n: f64| (n * 10.0).round() / 10.0;
    json!({"instructions": counts.instructions.round(), "allocations": round(counts.allocations)})
}

fn compiler() -> String {
    let said = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version").output();
    said.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_tolerance_is_worse() {
        assert!(!compare("", 100.0, 103.9, 4.0, 0.0).1);
        assert!(compare("", 100.0, 104.1, 4.0, 0.0).1);
        assert!(!compare("", 3.0, 3.4, 4.0, FEW).1);
        assert!(compare("", 3.0, 4.0, 4.0, FEW).1);
        let (said, worse) = compare("http1: instructions", 100.0, 50.0, 4.0, 0.0);
        assert!(!worse && said.contains("-50.0 %") && said.contains("--store"), "{said}");
    }
}
