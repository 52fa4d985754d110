//! The data threads: each runs a runtime of its own, accepts on its own sockets, and serves what it accepted to the end.

use crate::{
    body::ReplayMemory,
    drain,
    listen::{self, Bound, Inbound, Outbound, Places},
    record::Recorder,
    stack,
    state::State,
    telemetry::{AccessLog, Direction, Metrics},
    tls,
    tunnel::Tunnel,
};
use std::{io, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

/// What the data threads are given.
pub struct Plane {
    /// The configuration.
    pub state: Arc<State>,
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
    /// How long connections are still accepted when the drain has begun, until everybody knows.
    pub accept_while_draining: Duration,
}

impl Default for Limits {
    /// 16,384 connections each way, 64 KiB a request, 16 MiB in all, one second.
    fn default() -> Self {
        Self {
            connections: 16_384,
            replay_per_request: 64 * 1024,
            replay_in_all: 16 * 1024 * 1024,
            accept_while_draining: Duration::from_secs(1),
        }
    }
}

/// Data threads at work. They end when the drain is over and this is dropped or [`Running::stop`]ped.
pub struct Running {
    /// Where the application's requests are taken.
    pub outbound: SocketAddr,
    /// Where other sidecars' requests are taken.
    pub inbound: SocketAddr,
    /// Whether IPv6 is captured, where anything is.
    pub captures_v6: bool,
    threads: Vec<JoinHandle<()>>,
    stop: tokio::sync::watch::Sender<bool>,
}

/// Sockets for captured traffic, besides those that there are in any case; as many of each as data threads.
#[derive(Debug, Default)]
pub struct Capture {
    /// Where the application's connections arrive: on loopback, for each address family.
    pub outbound: Vec<Bound>,
    /// Where connections for the application arrive over IPv6.
    pub inbound: Vec<Bound>,
}

/// What comes in on a socket.
#[derive(Debug, Clone, Copy)]
enum Side {
    Outbound,
    Captured,
    Inbound,
}

/// Starts a data thread for each socket of `outbound` and `inbound`, which have as many. `capture`: traffic is captured.
///
/// # Errors
/// No thread or runtime could be made.
pub fn start(
    plane: Plane,
    limits: &Limits,
    outbound: Bound,
    inbound: Bound,
    capture: Option<Capture>,
    drain: drain::Watch,
) -> io::Result<Running> {
    let addresses = (outbound.address, inbound.address);
    let captures = capture.is_some();
    let captures_v6 = capture.as_ref().is_some_and(|c| c.outbound.iter().any(|bound| bound.address.is_ipv6()));
    let mut sockets = Sockets::default();
    sockets.add(Side::Outbound, outbound);
    sockets.add(Side::Inbound, inbound);
    let Capture { outbound: captured, inbound: more } = capture.unwrap_or_default();
    captured.into_iter().for_each(|bound| sockets.add(Side::Captured, bound));
    more.into_iter().for_each(|bound| sockets.add(Side::Inbound, bound));
    let recorder = Recorder::new(plane.metrics.clone(), plane.log.clone());
    let memory = Arc::new(ReplayMemory::new(limits.replay_per_request, limits.replay_in_all));
    let tunnel = |direction| Tunnel { drain: drain.clone(), metrics: plane.metrics.clone(), direction };
    let parts =
        |direction| stack::Parts { memory: memory.clone(), metrics: plane.metrics.clone(), tunnel: tunnel(direction) };
    let stack = stack::Outbound::new(&parts(Direction::Outbound), plane.state.clone());
    let tunnel_out = tunnel(Direction::Outbound);
    let out = Outbound::new(plane.state.clone(), stack, recorder.clone(), tunnel_out, drain.clone());
    let tunnel_in = tunnel(Direction::Inbound);
    let in_parts = parts(Direction::Inbound);
    let into = Inbound::new(
        plane.state,
        plane.server,
        in_parts,
        recorder,
        plane.metrics.clone(),
        tunnel_in,
        drain.clone(),
        captures,
    );
    let (out_places, in_places) = (Places::new(limits.connections), Places::new(limits.connections));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut threads = vec![];
    for (worker, sockets) in sockets.0.into_iter().enumerate() {
        let (out, into) = (out.clone(), into.clone());
        let accepting = listen::Accepting {
            metrics: plane.metrics.clone(),
            stop: drain.clone(),
            linger: limits.accept_while_draining,
        };
        let (out_places, in_places, mut stopped) = (out_places.clone(), in_places.clone(), stopped.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = async move {
            let all = sockets.into_iter().map(|(side, socket)| {
                let (accepting, out, into) = (accepting.clone(), out.clone(), into.clone());
                let (out_places, in_places) = (out_places.clone(), in_places.clone());
                async move {
                    match side {
                        Side::Outbound => {
                            accepting
                                .run(socket, out_places, move |tcp, peer| out.clone().connection(worker, tcp, peer))
                                .await
                        }
                        Side::Captured => {
                            accepting
                                .run(socket, out_places, move |tcp, peer| out.clone().captured(worker, tcp, peer))
                                .await
                        }
                        Side::Inbound => {
                            accepting
                                .run(socket, in_places, move |tcp, peer| into.clone().connection(worker, tcp, peer))
                                .await
                        }
                    }
                }
            });
            for error in futures::future::join_all(all).await.into_iter().filter_map(Result::err) {
                tracing::error!(%error, "a listening socket failed");
            }
            // Each holds up the end of the drain.
            drop((accepting, out, into));
            // Connections live on in their tasks until the drain is over.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let thread = std::thread::Builder::new().name(format!("data-{worker}"));
        threads.push(thread.spawn(move || runtime.block_on(serve))?);
    }
    Ok(Running { outbound: addresses.0, inbound: addresses.1, captures_v6, threads, stop })
}

/// The sockets of each data thread.
#[derive(Default)]
struct Sockets(Vec<Vec<(Side, std::net::TcpListener)>>);

impl Sockets {
    fn add(&mut self, side: Side, bound: Bound) {
        self.0.resize_with(self.0.len().max(bound.sockets.len()), Vec::new);
        for (of_thread, socket) in self.0.iter_mut().zip(bound.sockets) {
            of_thread.push((side, socket));
        }
    }
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
