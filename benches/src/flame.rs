//! Flame graphs: where a pair of sidecars spends its time under one shape of load, as an SVG that needs nothing else.
//!
//! `perf record` samples stacks; they are folded and drawn here. Wants a program with symbols (`--profile profiling`).

use crate::{
    application::Application,
    contestant::{Contestant, Failure, Kind},
    load::Clients,
    machine,
    peers::{self, weir},
    scenario::Scenario,
};
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// Draws one.
#[derive(Debug, clap::Args)]
pub struct Flame {
    /// The shape of load.
    #[arg(long, value_enum, default_value_t = Scenario::Http1)]
    scenario: Scenario,
    /// Whose pair.
    #[arg(long, value_enum, default_value_t = Kind::Weir)]
    of: Kind,
    /// Requests a second, instead of as many as get done.
    #[arg(long)]
    rate: Option<u32>,
    /// How long samples are taken.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=120))]
    seconds: u32,
    /// Where it goes.
    #[arg(long, default_value = "flame.svg")]
    output: PathBuf,
}

/// Loads a pair, samples it, draws.
pub fn run(flame: &Flame) -> Result<(), Failure> {
    machine::raise_file_limit();
    let perf = peers::find("perf").ok_or("perf is not installed")?;
    let binaries = weir::Binaries::find()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("perf.data");
    let application = Application::start()?;
    let roles = runtime.block_on(sample(flame, &perf, &data, &binaries, &application))?;
    let script = Command::new(&perf)
        .args(["script", "--no-inline", "-F", "pid,ip,sym", "-i"])
        .arg(&data)
        .stderr(Stdio::null())
        .output()?;
    let root = fold(&String::from_utf8_lossy(&script.stdout), &roles);
    if root.samples == 0 {
        return Err("perf saw nothing".into());
    }
    let title = format!("{}: {}", flame.of, flame.scenario.title());
    std::fs::write(&flame.output, Drawing { root: &root, title: &title }.to_string())?;
    println!("{} samples, drawn in {}", root.samples, flame.output.display());
    Ok(())
}

/// Takes the samples; says which process is whose.
async fn sample(
    flame: &Flame,
    perf: &Path,
    data: &Path,
    binaries: &weir::Binaries,
    application: &Application,
) -> Result<BTreeMap<u32, String>, Failure> {
    let pair = Contestant::start(flame.of, binaries, None, application.address).await?.ok_or("it is not installed")?;
    let ids: Vec<_> = pair.proxies.iter().map(|(_, process)| process.id().to_string()).collect();
    let mut clients = Clients::connect(flame.scenario, flame.scenario.target(&pair)).await?;
    clients.closed(Duration::from_millis(500)).await?;
    let lasts = Duration::from_secs(flame.seconds.into());
    let mut record = Command::new(perf)
        .args(["record", "-q", "-e", "cpu-clock", "-F", "999", "--call-graph", "dwarf,16384", "-m", "2048"])
        .args(["-p", &ids.join(","), "-o"])
        .arg(data)
        .args(["--", "sleep", &flame.seconds.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let lasts = lasts + Duration::from_millis(500);
    match flame.rate {
        Some(rate) => clients.open(rate, lasts).await?,
        None => clients.closed(lasts).await?,
    };
    record.wait()?;
    Ok(pair.proxies.iter().map(|(role, process)| (process.id(), format!("{role} proxy"))).collect())
}

/// A function on the stack, with what it called.
#[derive(Debug, Default)]
struct Frame {
    samples: u64,
    called: BTreeMap<String, Frame>,
}

impl Frame {
    fn add<'a>(&mut self, mut stack: impl Iterator<Item = &'a str>) {
        self.samples += 1;
        if let Some(name) = stack.next() {
            self.called.entry(name.to_owned()).or_default().add(stack);
        }
    }

    fn depth(&self) -> usize {
        1 + self.called.values().map(Self::depth).max().unwrap_or(0)
    }
}

/// perf-script(1): a line with the process, then a line for each frame, innermost first, then an empty one.
fn fold(script: &str, roles: &BTreeMap<u32, String>) -> Frame {
    let mut root = Frame::default();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
        let Some(process) = lines.next().and_then(|line| line.trim().parse().ok()) else { continue };
        let Some(role) = roles.get(&process) else { continue };
        let mut stack: Vec<_> = lines.filter_map(|line| line.trim().split_once(' ')).map(|(_, name)| name).collect();
        stack.reverse();
        root.add([role.as_str()].into_iter().chain(stack));
    }
    root
}

const WIDTH: f64 = 1600.0;
const HEIGHT: f64 = 16.0;

struct Drawing<'a> {
    root: &'a Frame,
    title: &'a str,
}

impl Drawing<'_> {
    fn frame(&self, out: &mut String, name: &str, frame: &Frame, x: f64, level: usize) -> fmt::Result {
        let width = WIDTH * frame.samples as f64 / self.root.samples as f64;
        if width < 0.3 {
            return Ok(());
        }
        let share = 100.0 * frame.samples as f64 / self.root.samples as f64;
        let (y, name) = ((level + 2) as f64 * HEIGHT, escape(name));
        let hue = name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into())) % 55;
        write!(out, "<g><title>{name} ({share:.2} %)</title>")?;
        write!(
            out,
            "<rect x='{x:.1}' y='{y}' width='{width:.1}' height='{}' fill='hsl({hue},80%,65%)' rx='1'/>",
            HEIGHT - 1.0
        )?;
        let letters = (width / 6.6) as usize;
        if letters > 3 {
            // Of a path, the end says most.
            let short: String = match frame_name(&name, letters) {
                whole if whole.len() == name.len() => name.clone(),
                cut => format!("…{cut}"),
            };
            write!(out, "<text x='{:.1}' y='{}'>{short}</text>", x + 2.0, y + 12.0)?;
        }
        writeln!(out, "</g>")?;
        let mut x = x;
        for (name, called) in &frame.called {
            self.frame(out, name, called, x, level + 1)?;
            x += WIDTH * called.samples as f64 / self.root.samples as f64;
        }
        Ok(())
    }
}

impl fmt::Display for Drawing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let height = (self.root.depth() + 3) as f64 * HEIGHT;
        writeln!(
            f,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='monospace' font-size='11'>"
        )?;
        writeln!(f, "<rect width='100%' height='100%' fill='white'/><text x='4' y='16'>{}</text>", escape(self.title))?;
        let mut out = String::new();
        self.frame(&mut out, "all", self.root, 0.0, 0)?;
        writeln!(f, "{out}</svg>")
    }
}

/// The last so many letters, as far as they can be cut without cutting an entity.
fn frame_name(name: &str, letters: usize) -> &str {
    let Some((at, _)) = name.char_indices().rev().nth(letters.saturating_sub(1)) else { return name };
    let cut = &name[at..];
    match (cut.find(';'), cut.find('&')) {
        (Some(end), begin) if begin.is_none_or(|begin| end < begin) => &cut[end + 1..],
        _ => cut,
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_are_folded_from_the_root_and_drawn() {
        let script = "  7 \n\t  1f inner<T>\n\t  2f outer\n\n  7 \n\t  2f outer\n\n  9 \n\t 1 other\n\n";
        let root = fold(script, &[(7, "caller's proxy".to_owned())].into());
        assert_eq!(root.samples, 2);
        let outer = &root.called["caller's proxy"].called["outer"];
        assert_eq!((outer.samples, outer.called["inner<T>"].samples), (2, 1));
        let svg = Drawing { root: &root, title: "a & b" }.to_string();
        assert!(svg.contains("inner&lt;T&gt; (50.00 %)") && svg.contains("a &amp; b") && svg.ends_with("</svg>\n"));
        assert_eq!(frame_name("a&lt;b", 3), "b");
    }
}
