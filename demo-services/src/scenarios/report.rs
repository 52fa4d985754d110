//! The report, for people (Markdown) and for programs (JSON).

use super::{Outcome, Results};
use std::{fmt::Write as _, io, path::Path};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Writes `report.md` and `report.json` into a folder.
pub(super) fn write(results: &Results, folder: &Path) -> io::Result<()> {
    super::prepare(folder)?;
    std::fs::write(folder.join("report.md"), markdown(results))?;
    std::fs::write(folder.join("report.json"), serde_json::to_vec_pretty(results)?)
}

/// One outcome on one line, for the terminal.
pub(super) fn line(o: &Outcome) -> String {
    let verdict = match (o.mesh, o.broken.is_empty()) {
        (_, true) => "ok  ",
        (true, false) => "FAIL",
        (false, false) => "hurt",
    };
    let mesh = if o.mesh { "mesh " } else { "plain" };
    let broken = if o.broken.is_empty() { String::new() } else { format!("  [{}]", o.broken.join(", ")) };
    format!(
        "{verdict} {mesh} {:<27} playback {:>6}  home p99 {:>5.0} ms  {}{broken}",
        o.scenario,
        share(o.felt.playback_success),
        o.felt.of("home").p99_ms,
        who(o)
    )
}

fn share(share: f64) -> String {
    format!("{:.2} %", (share * 10_000.0).floor() / 100.0)
}

fn who(o: &Outcome) -> String {
    if o.hurt.is_empty() { "nobody was hurt".into() } else { o.hurt.join(", ") }
}

fn markdown(r: &Results) -> String {
    let mut text = String::from("# Who was hurt\n\n");
    let began = i64::try_from(r.began).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    let began = began.and_then(|t| t.format(&Rfc3339).ok()).unwrap_or_default();
    let _ = writeln!(
        text,
        "The same failures under the same {} viewers a second (seed {}), with the mesh and without. Each lasted {} s, and \
         the {} s afterwards count too. {began}, {} cores, {}.\n",
        r.rate, r.seed, r.hold_s, r.settle_s, r.cores, r.processor
    );
    text.push_str(
        "| failure | playback | | home in 800 ms | | home p99 | | who was hurt with the mesh | who without |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|---|\n");
    text.push_str("| | mesh | without | mesh | without | mesh | without | | |\n");
    let mut names: Vec<&str> = Vec::new();
    for o in &r.outcomes {
        if !names.contains(&o.scenario.as_str()) {
            names.push(&o.scenario);
        }
    }
    for name in &names {
        text.push_str(&row(r, name));
    }
    text.push_str(&charges(r, &names));
    text.push_str(&verdict(r));
    text
}

fn find<'a>(r: &'a Results, name: &str, mesh: bool) -> Option<&'a Outcome> {
    r.outcomes.iter().find(|o| o.scenario == name && o.mesh == mesh)
}

fn row(r: &Results, name: &str) -> String {
    let both = [find(r, name, true), find(r, name, false)];
    let what = both.iter().flatten().next().map_or(name, |o| o.what.as_str());
    let cells = |f: fn(&Outcome) -> String| both.map(|o| o.map_or("–".into(), f)).join(" | ");
    let numbers = [
        cells(|o| share(o.felt.playback_success)),
        cells(|o| share(o.felt.home_in_time)),
        cells(|o| format!("{:.0} ms", o.felt.of("home").p99_ms)),
    ];
    format!("| {what} | {} | {} |\n", numbers.join(" | "), cells(who))
}

fn charges(r: &Results, names: &[&str]) -> String {
    let mut text = String::from(
        "\n## Charges\n\n| failure | | charges | tried again with the same key | double charges | amplification | given up |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for name in names.iter().filter(|n| n.starts_with("billing") || **n == "nothing") {
        for o in [find(r, name, true), find(r, name, false)].into_iter().flatten() {
            let b = &o.billing;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} |",
                o.what,
                if o.mesh { "mesh" } else { "without" },
                b.charges,
                b.replays,
                b.double_charges,
                b.amplification().map_or("–".into(), |a| format!("{a:.2}")),
                o.felt.subscriptions_lost
            );
        }
    }
    text
}

fn verdict(r: &Results) -> String {
    let mut text = String::from("\n## Verdict\n\n");
    for o in r.failures() {
        let others = o.others * 100.0;
        let _ =
            writeln!(text, "- {}: {} (other programs took {others:.0} % of the machine)", o.what, o.broken.join(", "));
    }
    if r.failures().next().is_none() {
        text.push_str("With the mesh, every promise held: playback ≥ 99.9 %, home ≥ 99.9 % with p99 ≤ 800 ms, no double charge, amplification of billing ≤ 1.2.\n");
    }
    text
}
