//! `weir-init`: turns the connections of this network namespace to the sidecar, or leaves them alone again.
//!
//! A program of its own, not a part of `weir-proxy`: it needs the right to set rules (`CAP_NET_ADMIN`) and runs for a
//! moment, the sidecar runs for ever and has no right at all; what has both could be made to use it.
//!
//! 0: done and proven. 1: it cannot be, and why. 2: the arguments make no sense.

use clap::Parser;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};
use weir_proxy::capture::{
    DNS, INBOUND, OUTBOUND, SIDECAR, probe,
    rules::{self, Ports, Range, Rules},
};

/// How long the proof may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Turns the TCP connections of this network namespace to its Weir sidecar: those of the application to port 15001, those
/// for the application to port 15006, over IPv4 and IPv6. Run it again to change what is captured.
#[derive(Debug, Parser)]
#[command(name = "weir-init", version)]
struct Args {
    /// Take all rules away again.
    #[arg(long, conflicts_with_all = ["check", "print"])]
    remove: bool,
    /// Change nothing; only prove that what is set works.
    #[arg(long, conflicts_with = "print")]
    check: bool,
    /// Change nothing; only show the rules (nftables).
    #[arg(long)]
    print: bool,
    /// Where the sidecar takes the application's connections.
    #[arg(long, env = "WEIR_CAPTURE", value_name = "PORT", default_value_t = OUTBOUND)]
    outbound_port: u16,
    /// Where the sidecar takes the application's questions for names (DNS, over UDP and TCP).
    #[arg(long, env = "WEIR_DNS", value_name = "PORT", default_value_t = DNS)]
    dns_port: u16,
    /// Leave the application's questions for names alone. (So does excluding port 53.)
    #[arg(long)]
    exclude_dns: bool,
    /// Where the sidecar takes connections for the application.
    #[arg(long, value_name = "PORT", default_value_t = INBOUND)]
    inbound_port: u16,
    /// The users that the sidecar runs as.
    #[arg(long, value_name = "UID", value_delimiter = ',', default_values_t = [SIDECAR])]
    sidecar_uid: Vec<u32>,
    /// The groups that the sidecar runs as.
    #[arg(long, value_name = "GID", value_delimiter = ',', default_values_t = [SIDECAR])]
    sidecar_gid: Vec<u32>,
    /// Further users whose connections are left alone.
    #[arg(long, value_name = "UID", value_delimiter = ',')]
    exclude_uids: Vec<u32>,
    /// Further groups whose connections are left alone.
    #[arg(long, value_name = "GID", value_delimiter = ',')]
    exclude_gids: Vec<u32>,
    /// Capture only connections to these ports [default: all].
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    outbound_ports: Vec<Ports>,
    /// Leave connections to these ports alone.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    exclude_outbound_ports: Vec<Ports>,
    /// Capture only connections to these addresses [default: all].
    #[arg(long, value_name = "RANGES", value_delimiter = ',')]
    outbound_ranges: Vec<Range>,
    /// Leave connections to these addresses alone.
    #[arg(long, value_name = "RANGES", value_delimiter = ',')]
    exclude_outbound_ranges: Vec<Range>,
    /// Capture only connections for these ports of the application [default: all].
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    inbound_ports: Vec<Ports>,
    /// Leave connections for these ports alone, besides the sidecar's own 15006, 15020 and 15021.
    #[arg(long, value_name = "PORTS", value_delimiter = ',')]
    exclude_inbound_ports: Vec<Ports>,
}

impl Args {
    fn rules(self) -> Rules {
        Rules {
            outbound_port: self.outbound_port,
            dns_port: Some(self.dns_port).filter(|port| *port != 0 && !self.exclude_dns),
            inbound_port: self.inbound_port,
            sidecar_uids: self.sidecar_uid,
            sidecar_gids: self.sidecar_gid,
            exclude_uids: self.exclude_uids,
            exclude_gids: self.exclude_gids,
            outbound_ports: self.outbound_ports,
            exclude_outbound_ports: self.exclude_outbound_ports,
            outbound_ranges: self.outbound_ranges,
            exclude_outbound_ranges: self.exclude_outbound_ranges,
            inbound_ports: self.inbound_ports,
            exclude_inbound_ports: self.exclude_inbound_ports,
        }
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(said) => {
            print!("{said}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("weir-init: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<String, String> {
    let port = args.outbound_port;
    if args.remove {
        nft(&["-f", "-"], &rules::removal())?;
        return Ok("nothing is captured any more\n".into());
    }
    if args.check {
        nft(&["list", "table", "inet", rules::TABLE], "").map_err(|e| format!("nothing is captured here: {e}"))?;
        return prove(port);
    }
    let print = args.print;
    let text = args.rules().text();
    if print {
        return Ok(text);
    }
    nft(&["-f", "-"], &text)?;
    prove(port).inspect_err(|_| {
        // Rules that do not work would cut the application off.
        let _ = nft(&["-f", "-"], &rules::removal());
    })
}

/// Runs nftables' own program, which knows its kernel's way.
fn nft(arguments: &[&str], input: &str) -> Result<(), String> {
    let mut nft = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("nft: {e}; install nftables"))?;
    if let Some(mut to) = nft.stdin.take() {
        to.write_all(input.as_bytes()).map_err(|e| format!("nft: {e}"))?;
    }
    let output = nft.wait_with_output().map_err(|e| format!("nft: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A connection to where nobody listens must arrive at the sidecar's port, for each family that this namespace has.
fn prove(port: u16) -> Result<String, String> {
    let mut proven = vec![];
    for v6 in [false, true] {
        let called = probe::address(v6);
        let here = SocketAddr::new(called.ip(), port);
        match TcpListener::bind(here) {
            // The sidecar is not there yet: we take its place for a moment.
            Ok(listener) => drop(thread::spawn(move || answer(&listener))),
            // It is there, and answers itself.
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {}
            // No IPv6 here, then.
            Err(_) if v6 => continue,
            Err(e) => return Err(format!("cannot listen on {here} to try the rules: {e}")),
        }
        ask(called).map_err(|e| format!("the rules are set and do not work: {called} does not lead to {here}: {e}"))?;
        proven.push(if v6 { "IPv6" } else { "IPv4" });
    }
    Ok(format!("captured: {}\n", proven.join(", ")))
}

/// Answers one connection; ends with the process if none comes.
fn answer(listener: &TcpListener) {
    if let Ok((mut tcp, _)) = listener.accept() {
        let _ = tcp.write_all(probe::ANSWER);
    }
}

fn ask(called: SocketAddr) -> Result<(), String> {
    let asked = || {
        let mut tcp = TcpStream::connect_timeout(&called, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let mut said = vec![0; probe::ANSWER.len()];
        tcp.read_exact(&mut said)?;
        Ok::<_, std::io::Error>(said)
    };
    match asked() {
        Ok(said) if said == probe::ANSWER => Ok(()),
        Ok(_) => Err("somebody else answered".into()),
        Err(e) => Err(e.to_string()),
    }
}
