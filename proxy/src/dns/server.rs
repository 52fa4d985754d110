//! Takes questions over UDP and TCP, and answers each when its answer is known.

use super::message::{Question, failed};
use crate::{
    drain::Door,
    resolve::{Over, Upstream, read, write},
    state::{NameEntry, State},
    telemetry::Metrics,
    xds::Status,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

/// Questions that are being answered at a time. Each is one socket and a buffer of 16 KiB at most.
const MAX_QUESTIONS: usize = 512;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// A connection on which nothing is asked for so long is closed (RFC 7766 §6.2.3: in the order of seconds).
const IDLE: Duration = Duration::from_secs(10);
/// How long a name may be asked for at the control plane, before it is taken for none of the mesh's.
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest question over UDP.
const MAX_QUESTION: usize = 4096;

/// What it listens on, not yet registered with a runtime.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Datagrams.
    pub udp: Vec<std::net::UdpSocket>,
    /// Connections.
    pub tcp: Vec<std::net::TcpListener>,
}

/// Answers questions.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    state: Arc<State>,
    status: Arc<Status>,
    upstream: Arc<Upstream>,
    questions: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    counts: Counts,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Counts {
    mesh: AtomicU64,
    upstream: AtomicU64,
    failed: AtomicU64,
    shed: AtomicU64,
}

impl Server {
    /// `status`: whether there is a control plane to ask.
    pub fn new(state: Arc<State>, status: Arc<Status>, upstream: Arc<Upstream>, metrics: &Metrics) -> Self {
        let inner = Arc::new(Inner {
            state,
            status,
            upstream,
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            counts: Counts::default(),
            turn: AtomicUsize::new(0),
        });
        let told = inner.clone();
        metrics.add_source(move |out| {
            let counts = &told.counts;
            out.family("weir_dns_answers_total", "counter", "Questions of the application, by who has answered.");
            for (by, count) in [
                ("mesh", &counts.mesh),
                ("upstream", &counts.upstream),
                ("nobody", &counts.failed),
                ("limit", &counts.shed),
            ] {
                out.sample([("by", by)], count.load(Ordering::Relaxed));
            }
            let used = MAX_QUESTIONS - told.questions.available_permits();
            out.family("weir_dns_inflight", "gauge", "Questions that are being answered.").sample([], used);
            out.family("weir_dns_inflight_max", "gauge", "How many there may be.").sample([], MAX_QUESTIONS);
        });
        Self { inner }
    }

    /// Listens while the door is open, in tasks of its own.
    pub fn listen(&self, sockets: Sockets, door: &watch::Sender<Door>) {
        for socket in sockets.udp {
            match UdpSocket::from_std(socket) {
                Ok(socket) => drop(tokio::spawn(self.clone().datagrams(Arc::new(socket), door.subscribe()))),
                Err(error) => tracing::error!(%error, "no questions are answered over UDP"),
            }
        }
        for socket in sockets.tcp {
            match TcpListener::from_std(socket) {
                Ok(listener) => drop(tokio::spawn(self.clone().accept(listener, door.subscribe()))),
                Err(error) => tracing::error!(%error, "no questions are answered over TCP"),
            }
        }
    }

    async fn datagrams(self, socket: Arc<UdpSocket>, mut door: watch::Receiver<Door>) {
        let mut buffer = vec![0; MAX_QUESTION];
        while opened(&mut door).await {
            let (length, peer) = tokio::select! {
                received = socket.recv_from(&mut buffer) => match received {
                    Ok(received) => received,
                    // One who asked before is gone (ICMP): no matter for the next.
                    Err(_) => continue,
                },
                _ = door.changed() => continue,
            };
            let Some(question) = buffer.get(..length) else { continue };
            match self.inner.questions.clone().try_acquire_owned() {
                Ok(permit) => {
                    let (server, socket, question) = (self.clone(), socket.clone(), question.to_vec());
                    tokio::spawn(async move { server.datagram(&socket, peer, &question, permit).await });
                }
                Err(_) => {
                    self.inner.counts.shed.fetch_add(1, Ordering::Relaxed);
                    if let Some(answer) = failed(question, Over::Udp) {
                        let _ = socket.try_send_to(&answer, peer);
                    }
                }
            }
        }
    }

    async fn datagram(&self, socket: &UdpSocket, peer: SocketAddr, question: &[u8], _permit: OwnedSemaphorePermit) {
        if let Some(answer) = self.answer(question, Over::Udp).await {
            // Whoever asked may be gone.
            let _ = socket.send_to(&answer, peer).await;
        }
    }

    async fn accept(self, listener: TcpListener, mut door: watch::Receiver<Door>) {
        while opened(&mut door).await {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "a connection with questions was not accepted");
                        // Too many descriptors are open, as a rule: to try at once would only burn time.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
                _ = door.changed() => continue,
            };
            match self.inner.connections.clone().try_acquire_owned() {
                Ok(permit) => {
                    let server = self.clone();
                    tokio::spawn(async move { server.connection(stream, permit).await });
                }
                Err(_) => drop(self.inner.counts.shed.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    /// One question after the other.
    async fn connection(&self, mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
        stream.set_nodelay(true).ok();
        while let Ok(Ok(question)) = timeout(IDLE, read(&mut stream)).await {
            let answer = match self.inner.questions.try_acquire() {
                Ok(_permit) => self.answer(&question, Over::Tcp).await,
                Err(_) => {
                    self.inner.counts.shed.fetch_add(1, Ordering::Relaxed);
                    failed(&question, Over::Tcp)
                }
            };
            let Some(answer) = answer else { return };
            if !matches!(timeout(IDLE, write(&mut stream, &answer)).await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// `None`: what came is no question.
    async fn answer(&self, bytes: &[u8], over: Over) -> Option<Vec<u8>> {
        let Inner { state, status, upstream, counts, turn, .. } = &*self.inner;
        if let Some(question) = Question::read(bytes).filter(Question::is_of_a_host) {
            // Without a control plane nothing new is learnt: what is not known yet is for the resolvers to say.
            let patience = if status.is_connected() { PATIENCE } else { Duration::ZERO };
            if let Some(NameEntry::Known(named)) = state.name(&question.name, patience).await {
                counts.mesh.fetch_add(1, Ordering::Relaxed);
                return Some(question.answer(&named.addresses, turn.fetch_add(1, Ordering::Relaxed), over));
            }
        }
        // An answer to nothing must not be sent on, nor anything that is shorter than every question.
        failed(bytes, over)?;
        match upstream.ask(bytes, over).await {
            Ok(answer) => {
                counts.upstream.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            Err(error) => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, "no resolver answers");
                failed(bytes, over)
            }
        }
    }
}

/// Waits until the door is open. `false`: it never will be again.
async fn opened(door: &mut watch::Receiver<Door>) -> bool {
    door.wait_for(|door| *door != Door::Shut).await.is_ok_and(|door| *door == Door::Open)
}
