//! What is seen on the wire between pods: every packet on the bridge, put together again to streams.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use weir_tests::{eventually, process::Process};

/// Who sends what to whom: source and destination, each with its port.
type Flow = ((IpAddr, u16), (IpAddr, u16));

/// The first sequence number of a flow, and what was sent at which distance from it.
type Segments = (Option<u32>, BTreeMap<u32, Vec<u8>>);

/// A listener on the bridge.
pub(crate) struct Tap {
    process: Process,
    file: PathBuf,
}

impl Tap {
    pub(crate) async fn start(tcpdump: &Path, folder: &Path) -> Self {
        let file = folder.join("wire.pcap");
        let mut command = Command::new(tcpdump);
        command.args(["-i", "br0", "-s", "0", "-U", "-B", "65536", "-Z", "root", "-w"]).arg(&file).arg("tcp");
        let process = Process::start("tcpdump", folder, &mut command);
        eventually("tcpdump listens", 10, || async { process.log().contains("listening on").then_some(()) }).await;
        Self { process, file }
    }

    /// What was sent, by flow.
    pub(crate) async fn stop(mut self) -> BTreeMap<Flow, Vec<u8>> {
        self.process.signal(nix::sys::signal::Signal::SIGINT);
        self.process.ended(Duration::from_secs(10)).await;
        assert!(self.process.log().contains("0 packets dropped by kernel"), "{}", self.process.log());
        streams(&std::fs::read(&self.file).expect("what was captured"))
    }
}

/// Everything between the two goes to the other's sidecar; all of it is TLS 1.3, record by record; and none of these
/// words can be read.
pub(crate) fn tls13_only(streams: &BTreeMap<Flow, Vec<u8>>, client: IpAddr, server: IpAddr, words: &[&str]) {
    let between = |(from, to): &Flow| (from.0 == client && to.0 == server) || (from.0 == server && to.0 == client);
    let mut bytes = 0;
    for (flow, stream) in streams.iter().filter(|(flow, _)| between(flow)) {
        let ((from, from_port), (_, to_port)) = flow;
        let to_server = *from == client;
        assert_eq!(if to_server { *to_port } else { *from_port }, 15006, "{flow:?}");
        let kinds = records(stream).unwrap_or_else(|why| panic!("{flow:?}: {why}"));
        // What was never answered has no records.
        assert!(stream.is_empty() || kinds.first() == Some(&22), "{flow:?}: it begins with {:?}", kinds.first());
        if !to_server && !stream.is_empty() {
            assert!(chose_tls13(stream), "{flow:?}: the server did not choose TLS 1.3");
        }
        for word in words {
            let seen = stream.windows(word.len()).any(|w| w == word.as_bytes());
            assert!(!seen, "`{word}` can be read in {flow:?}");
        }
        bytes += stream.len();
    }
    assert!(bytes > 5 << 20, "only {bytes} bytes were seen: that cannot be all");
}

/// The kinds of the records of a stream.
fn records(mut stream: &[u8]) -> Result<Kinds, String> {
    let mut kinds = Kinds::default();
    while let [kind, major, minor, high, low, rest @ ..] = stream {
        if !(20..=23).contains(kind) || *major != 3 || ![1, 3].contains(minor) {
            return Err(format!("no TLS record: {:?}", &stream[..stream.len().min(40)]));
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        kinds.push(*kind);
        // The last one may have been cut by the end of the tap.
        stream = rest.get(length..).unwrap_or_default();
    }
    Ok(kinds)
}

/// Kinds of records.
#[derive(Default)]
struct Kinds {
    first: Option<u8>,
}

impl Kinds {
    fn push(&mut self, kind: u8) {
        self.first.get_or_insert(kind);
    }

    fn first(&self) -> Option<&u8> {
        self.first.as_ref()
    }
}

/// Whether the ServerHello chooses version 0x0304 (RFC 8446 §4.2.1).
fn chose_tls13(stream: &[u8]) -> bool {
    let length = usize::from(u16::from_be_bytes([stream[3], stream[4]]));
    let hello = &stream[5..(5 + length).min(stream.len())];
    hello.first() == Some(&2) && hello.windows(6).any(|w| w == [0, 43, 0, 2, 3, 4])
}

/// Streams out of a file of tcpdump's (pcap, Ethernet).
fn streams(file: &[u8]) -> BTreeMap<Flow, Vec<u8>> {
    assert_eq!(file[..4], 0xa1b2_c3d4_u32.to_le_bytes(), "another format than expected");
    assert_eq!(file[20..24], 1u32.to_le_bytes(), "no Ethernet");
    let mut segments: BTreeMap<Flow, Segments> = BTreeMap::new();
    let mut rest = &file[24..];
    while rest.len() >= 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        if let Some((flow, sequence, syn, payload)) = segment(&rest[16..16 + length]) {
            let (first, parts) = segments.entry(flow).or_default();
            if syn {
                *first = Some(sequence.wrapping_add(1));
            }
            if !payload.is_empty() {
                let first = *first.get_or_insert(sequence);
                let part = parts.entry(sequence.wrapping_sub(first)).or_default();
                if part.len() < payload.len() {
                    *part = payload.to_vec();
                }
            }
        }
        rest = &rest[16 + length..];
    }
    segments.into_iter().map(|(flow, (_, parts))| (flow, joined(flow, parts))).collect()
}

fn joined(flow: Flow, parts: BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    let mut stream = Vec::new();
    for (at, part) in parts {
        let at = at as usize;
        assert!(at <= stream.len(), "{flow:?}: something was missed at {}", stream.len());
        let known = (stream.len() - at).min(part.len());
        stream.extend_from_slice(&part[known..]);
    }
    stream
}

/// Flow, sequence number, whether it begins a connection, payload.
fn segment(frame: &[u8]) -> Option<(Flow, u32, bool, &[u8])> {
    let (from, to, tcp) = match (frame.get(12..14)?, frame.get(14..)?) {
        ([8, 0], ip) => {
            let header = usize::from(ip[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            let address = |at: usize| IpAddr::from(<Ipv4Addr>::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap()));
            // A packet that the kernel has yet to cut into segments says no length.
            let end = if total == 0 { ip.len() } else { total };
            (ip[9] == 6).then(|| (address(12), address(16), &ip[header..end]))?
        }
        ([0x86, 0xdd], ip) => {
            let total = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            let address = |at: usize| IpAddr::from(<Ipv6Addr>::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap()));
            let end = if total == 0 { ip.len() } else { 40 + total };
            (ip[6] == 6).then(|| (address(8), address(24), &ip[40..end]))?
        }
        _ => return None,
    };
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    let sequence = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
    let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
    Some((((from, port(0)), (to, port(2))), sequence, tcp[13] & 2 != 0, payload))
}
