//! The data threads: each runs a runtime of its own, accepts on its own sockets, and serves what it accepted to the end.

use crate::{
    body::ReplayMemory,
    drain::{self, Door},
    listen::{self, Bound, Inbound, Outbound, Places},
    record::Recorder,
    stack,
    state::{Probes, State},
    telemetry::{AccessLog, Direction, Metrics},
    tls,
    tunnel::Tunnel,
};
use std::{io, net::TcpListener, sync::Arc, thread::JoinHandle};
use tokio::sync::watch;

/// What the data threads are given.
pub struct Plane {
    /// The configuration.
    pub state: Arc<State>,
    /// What a kubelet may ask.
    pub probes: Arc<Probes>,
    /// Accepts mutual TLS.
    pub server: tls::Server,
    /// Where is counted.
    pub metrics: Arc<Metrics>,
    /// Where requests are logged.
    pub log: Arc<AccessLog>,
}

/// Limits of the data threads.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of each direction.
    pub connections: usize,
    /// Bytes of one request's body that are kept for a further try.
    pub replay_per_request: usize,
    /// Bytes that all of them keep together.
    pub replay_in_all: usize,
}

impl Default for Limits {
    /// 16,384 connections each way, 64 KiB a request, 16 MiB in all.
    fn default() -> Self {
        Self { connections: 16_384, replay_per_request: 64 * 1024, replay_in_all: 16 * 1024 * 1024 }
    }
}

/// How long each direction lives.
pub struct Lives {
    /// The application's calls.
    pub outbound: drain::Watch,
    /// Calls of other sidecars.
    pub inbound: drain::Watch,
    /// Whether connections are accepted.
    pub door: watch::Receiver<Door>,
}

/// Of the application's connections so many are accepted in each turn, of other sidecars' one: they begin with a handshake.
const CALLERS_AT_ONCE: usize = 4;

/// Sockets for captured traffic, besides those that there are in any case.
#[derive(Debug, Default)]
pub struct Capture {
    /// Where the application's connections arrive: on loopback, for each address family.
    pub outbound: Vec<Bound>,
    /// Where connections for the application arrive over IPv6.
    pub inbound: Vec<Bound>,
}

/// Data threads at work. They end when they are [`Running::stop`]ped.
pub struct Running {
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// Starts `threads` data threads, among which the sockets are shared out. `capture`: traffic is captured.
///
/// # Errors
/// No thread or runtime could be made.
pub fn start(
    plane: Plane,
    limits: &Limits,
    threads: usize,
    outbound: Bound,
    inbound: Bound,
    capture: Option<Capture>,
    lives: Lives,
) -> io::Result<Running> {
    let captures = capture.is_some();
    let recorder = Recorder::new(plane.metrics.clone(), plane.log.clone());
    let memory = Arc::new(ReplayMemory::new(limits.replay_per_request, limits.replay_in_all));
    let tunnel =
        |direction, drain: &drain::Watch| Tunnel { drain: drain.clone(), metrics: plane.metrics.clone(), direction };
    let (tunnel_out, tunnel_in) =
        (tunnel(Direction::Outbound, &lives.outbound), tunnel(Direction::Inbound, &lives.inbound));
    let parts = |tunnel: &Tunnel| stack::Parts {
        memory: memory.clone(),
        metrics: plane.metrics.clone(),
        tunnel: tunnel.clone(),
    };
    let stack = stack::Outbound::new(&parts(&tunnel_out), plane.state.clone());
    let out = Outbound::new(plane.state.clone(), stack, recorder.clone(), tunnel_out, lives.outbound.clone());
    let in_parts = parts(&tunnel_in);
    let metrics = plane.metrics.clone();
    let life = lives.inbound.clone();
    let probes = captures.then_some(plane.probes);
    let into = Inbound::new(plane.state, plane.server, in_parts, recorder, metrics.clone(), tunnel_in, life, probes);
    let (out_places, in_places) = (Places::new(limits.connections), Places::new(limits.connections));
    let (stop, stopped) = watch::channel(false);
    let accepting = |stop: &drain::Watch, at_once| listen::Accepting {
        metrics: metrics.clone(),
        door: lives.door.clone(),
        stop: stop.clone(),
        at_once,
    };
    let mut running = vec![];
    for (worker, mine) in shares(threads, outbound, inbound, capture.unwrap_or_default())?.into_iter().enumerate() {
        let (out, into) = (out.clone(), into.clone());
        let (accept_out, accept_in) = (accepting(&lives.outbound, CALLERS_AT_ONCE), accepting(&lives.inbound, 1));
        let (out_places, in_places, mut stopped) = (out_places.clone(), in_places.clone(), stopped.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = async move {
            // Each of these lets go of the drain when it has ended: who keeps a watch holds the drain up.
            let outgoing = {
                let out = out.clone();
                accept_out
                    .clone()
                    .run(mine.outbound, out_places.clone(), move |tcp, peer| out.clone().connection(worker, tcp, peer))
            };
            let captured =
                accept_out.run(mine.captured, out_places, move |tcp, peer| out.clone().captured(worker, tcp, peer));
            let incoming =
                accept_in.run(mine.inbound, in_places, move |tcp, peer| into.clone().connection(worker, tcp, peer));
            let all = async {
                let (outgoing, captured, incoming) = tokio::join!(outgoing, captured, incoming);
                for error in [outgoing.err(), captured.err(), incoming.err()].into_iter().flatten() {
                    tracing::error!(%error, "a listening socket failed");
                }
                // Connections live on in their tasks until the drain is over.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = all => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        };
        let thread = std::thread::Builder::new().name(format!("data-{worker}"));
        running.push(thread.spawn(move || runtime.block_on(serve))?);
    }
    Ok(Running { threads: running, stop })
}

/// The sockets of one data thread.
#[derive(Default)]
struct Share {
    outbound: Vec<TcpListener>,
    captured: Vec<TcpListener>,
    inbound: Vec<TcpListener>,
}

fn shares(threads: usize, outbound: Bound, inbound: Bound, capture: Capture) -> io::Result<Vec<Share>> {
    let mut shares: Vec<Share> = std::iter::repeat_with(Share::default).take(threads.max(1)).collect();
    let mut add = |bound: Bound, to: fn(&mut Share) -> &mut Vec<TcpListener>| {
        let parts = bound.share(threads)?;
        shares.iter_mut().zip(parts).for_each(|(share, part)| to(share).extend(part));
        Ok::<_, io::Error>(())
    };
    add(outbound, |share| &mut share.outbound)?;
    capture.outbound.into_iter().try_for_each(|bound| add(bound, |share| &mut share.captured))?;
    [inbound].into_iter().chain(capture.inbound).try_for_each(|bound| add(bound, |share| &mut share.inbound))?;
    Ok(shares)
}

impl Running {
    /// Ends the threads, and with them whatever they still carry.
    pub fn stop(self) {
        self.stop.send_replace(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a data thread panicked");
            }
        }
    }
}
