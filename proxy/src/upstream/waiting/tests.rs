//! Requests that wait, against endpoints that accept, refuse, or say nothing.

use super::*;
use crate::{logic::ClusterLimits, tls};
use std::time::Duration;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use weir_config::model::ConnectionLimits;

pub(in crate::upstream) fn dialer(limits: ConnectionLimits) -> Dialer {
    Dialer {
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(10),
        http2_idle_timeout: Duration::from_secs(10),
        max_age: None,
        tls: None,
        limits: Arc::new(ClusterLimits::new(&limits)),
        client: Arc::new(tls::Client::new(Arc::default(), Duration::from_secs(1))),
        host: None,
        beside: None,
    }
}

fn target(address: SocketAddr) -> Target {
    Target { address, mesh: false, count: Arc::default() }
}

/// One that has been answered before, if it is not above 100.
pub(in crate::upstream) fn client(id: usize) -> Client {
    Client { worker: 0, id, known: id < 100 }
}

/// Accepts whatever comes, and keeps it.
fn accept(listener: TcpListener) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut open: Vec<TcpStream> = vec![];
        loop {
            open.push(listener.accept().await.unwrap().0);
        }
    })
}

/// Where nothing listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Where nobody accepts, and the kernel's queue is full: connections hang, as long as what comes with it lives.
async fn full() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut full = vec![];
    while let Ok(Ok(tcp)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        full.push(tcp);
    }
    (address, (listener, full))
}

fn crowd(pool: &Arc<IdlePool>, dialer: &Dialer, target: &Target, n: usize) -> JoinSet<Result<bool>> {
    let mut waiting = JoinSet::new();
    for id in 0..n {
        let (pool, dialer, target) = (pool.clone(), dialer.clone(), target.clone());
        waiting.spawn(async move {
            let (connection, reused) = wait(&pool, client(id), &dialer, || target).await?;
            // A request's time.
            tokio::task::yield_now().await;
            pool.give_back(connection, Duration::from_secs(10), false);
            Ok(reused)
        });
    }
    waiting
}

#[tokio::test]
async fn a_crowd_shares_few_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap());
    let accepting = accept(listener);
    let pool = Arc::<IdlePool>::default();
    let answers = crowd(&pool, &dialer(ConnectionLimits::default()), &target, 500).join_all().await;
    let reused = answers.into_iter().filter(|a| *a.as_ref().unwrap()).count();
    assert!(reused >= 250, "{reused} of 500 took what another gave back");
    let queue = pool.waiting.0.lock();
    assert_eq!((queue.waiters.len(), queue.dialing), (0, 0));
    accepting.abort();
}

#[tokio::test]
async fn nobody_waits_for_long_where_nothing_listens() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let pool = Arc::<IdlePool>::default();
    for answer in crowd(&pool, &dialer(ConnectionLimits::default()), &target(gone), 500).join_all().await {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), Kind::ConnectFailed);
        assert!(error.story().contains(&gone.to_string()), "{}", error.story());
    }
    assert_eq!(pool.waiting.0.lock().dialing, 0);
}

#[tokio::test]
async fn a_crowd_before_an_endpoint_that_says_nothing_waits_no_longer_than_one() {
    let (address, _full) = full().await;
    let pool = Arc::<IdlePool>::default();
    let begun = tokio::time::Instant::now();
    let mut waiting = crowd(&pool, &dialer(ConnectionLimits::default()), &target(address), 500);
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap().unwrap_err().kind(), Kind::ConnectTimeout);
    }
    // One time-out, where one after the other in sixteens would be thirty.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn limits_refuse_what_is_above_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap());
    let pool = Arc::<IdlePool>::default();
    let limits = ConnectionLimits { max_pending_requests: Some(3), ..ConnectionLimits::default() };
    let answers = crowd(&pool, &dialer(limits), &target, 10).join_all().await;
    let refused: Vec<_> = answers.iter().filter_map(|a| a.as_ref().err()).collect();
    assert_eq!(refused.len(), 7);
    assert!(
        refused.iter().all(|e| e.kind() == Kind::Overflow && e.story().contains("wait")),
        "{:?}",
        refused[0].story()
    );

    let pool = Arc::<IdlePool>::default();
    let limits = ConnectionLimits { max_connections: Some(2), ..ConnectionLimits::default() };
    let answers = crowd(&pool, &dialer(limits), &target, 10).join_all().await;
    let served = answers.iter().filter(|a| a.is_ok()).count();
    assert_eq!(served, 2);
    assert!(answers.iter().filter_map(|a| a.as_ref().err()).all(|e| e.kind() == Kind::Overflow));
}

#[tokio::test]
async fn who_has_gone_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap());
    let (pool, dialer) = (Arc::<IdlePool>::default(), dialer(ConnectionLimits::default()));
    let mut gone = vec![];
    for _ in 0..3 {
        gone.push(pool.waiting.join(client(0), &dialer).unwrap().0);
    }
    let (stays, _) = pool.waiting.join(client(0), &dialer).unwrap();
    drop(gone);
    let place = Place { address: target.address, mesh: false, count: &target.count };
    let permit = dialer.limits.connections.try_acquire().unwrap();
    pool.made(dialer.http1(place, permit).await.unwrap(), Duration::from_secs(10));
    assert!(!stays.await.unwrap().unwrap().1);
    assert_eq!(pool.len(), 0);
}

#[tokio::test]
async fn a_client_that_is_known_waits_for_no_crowd() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap());
    let accepting = accept(listener);
    let (pool, dialer) = (Arc::<IdlePool>::default(), dialer(ConnectionLimits::default()));
    let mut receivers = vec![];
    // A crowd of newcomers, one with many streams, then two that are known.
    for id in (200..264).chain([300; 64]).chain([1, 2]).chain([1; 8]) {
        receivers.push((id, pool.waiting.join(client(id), &dialer).unwrap().0));
    }
    let mut order = vec![];
    while !receivers.is_empty() {
        let place = Place { address: target.address, mesh: false, count: &target.count };
        let permit = dialer.limits.connections.try_acquire().unwrap();
        pool.made(dialer.http1(place, permit).await.unwrap(), Duration::from_secs(10));
        let served = receivers.iter_mut().position(|(_, receiver)| receiver.try_recv().is_ok()).unwrap();
        order.push(receivers.remove(served).0);
    }
    let last = |client: usize| order.iter().rposition(|id| *id == client).unwrap();
    // The first of each that is known, whoever came before; then newcomers; and one with many requests as often as any.
    assert_eq!(order[..3], [1, 2, 200], "{order:?}");
    assert!(last(1) < 90, "{order:?}");
    assert!(last(263) < 90, "newcomers do not wait for one that asks much: {order:?}");
    assert_eq!(last(300), order.len() - 1);
    let queue = pool.waiting.0.lock();
    assert_eq!((queue.waiters.len(), queue.clients.len()), (0, 0), "nothing is kept of those who waited");
    drop(queue);
    accepting.abort();
}

/// A pool with one connection that a client in a conversation has just given back.
struct Kept {
    pool: Arc<IdlePool>,
    dialer: Dialer,
    target: Target,
    accepting: JoinHandle<()>,
}

impl Kept {
    async fn new(limits: ConnectionLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap());
        let kept = Self { pool: Arc::default(), dialer: dialer(limits), target, accepting: accept(listener) };
        kept.give_back(kept.made().await, true);
        kept
    }

    async fn made(&self) -> Connection {
        let place = Place { address: self.target.address, mesh: false, count: &self.target.count };
        self.dialer.http1(place, self.dialer.limits.connections.try_acquire().unwrap()).await.unwrap()
    }

    fn give_back(&self, connection: Connection, known: bool) {
        self.pool.give_back(connection, self.dialer.idle_timeout, known);
    }

    fn take(&self, id: usize) -> Option<Connection> {
        let now = tokio::time::Instant::now();
        self.pool.take(client(id), self.dialer.idle_timeout, false, now).map(|(connection, _)| connection)
    }

    /// What a newcomer is handed.
    async fn newcomer(&self) -> Result<Handed> {
        wait(&self.pool, client(200), &self.dialer, || self.target.clone()).await
    }
}

#[tokio::test]
async fn newcomers_take_no_connection_from_a_client_that_is_known() {
    let kept = Kept::new(ConnectionLimits::default()).await;
    assert!(kept.take(200).is_none(), "it stays for one that is known");
    let connection = kept.take(1).unwrap();
    // What a newcomer gives back is for the next, whatever lies above it.
    kept.give_back(kept.made().await, false);
    kept.give_back(connection, true);
    let free = kept.take(200).unwrap();
    assert!(kept.take(200).is_none());
    // It is left to it by those that are known.
    kept.give_back(free, false);
    let connection = kept.take(1).unwrap();
    let free = kept.take(200).expect("what is free");
    kept.give_back(connection, true);
    // The same where others wait already.
    let connection = kept.take(1).unwrap();
    let mut crowd = (200..264).map(|id| kept.pool.waiting.join(client(id), &kept.dialer).unwrap().0);
    let mut waiting: Vec<_> = crowd.by_ref().take(3).collect();
    kept.give_back(connection, true);
    assert!(waiting[0].try_recv().is_err());
    kept.give_back(free, false);
    assert!(waiting[0].try_recv().unwrap().unwrap().1);
    // Another that is known is no newcomer.
    let mut known = kept.pool.waiting.join(client(2), &kept.dialer).unwrap().0;
    let connection = kept.take(1).unwrap();
    kept.give_back(connection, true);
    let (connection, _) = known.try_recv().unwrap().unwrap();
    // It does not stay for long,
    kept.give_back(connection, true);
    tokio::time::sleep(KEPT).await;
    let connection = kept.take(300).unwrap();
    // nor where none can be made for newcomers,
    kept.pool.waiting.0.lock().fails = true;
    kept.give_back(connection, true);
    let (connection, _) = waiting[1].try_recv().unwrap().unwrap();
    // nor where none has come about for long.
    let mut queue = kept.pool.waiting.0.lock();
    (queue.fails, queue.since) = (false, queue.since.and_then(|since| since.checked_sub(STUCK)));
    drop(queue);
    kept.give_back(connection, true);
    assert!(waiting[2].try_recv().unwrap().unwrap().1);
    kept.accepting.abort();
}

#[tokio::test]
async fn where_no_other_may_be_had_a_newcomer_gets_what_stays_for_others() {
    for limits in [
        ConnectionLimits { max_connections: Some(1), ..ConnectionLimits::default() },
        ConnectionLimits { max_pending_requests: Some(0), ..ConnectionLimits::default() },
    ] {
        let kept = Kept::new(limits).await;
        let (_lent, reused) = kept.newcomer().await.unwrap();
        assert!(reused, "{limits:?}");
        assert_eq!(kept.newcomer().await.err().unwrap().kind(), Kind::Overflow, "{limits:?}");
        kept.accepting.abort();
    }
}

#[tokio::test]
async fn where_no_other_can_be_had_a_newcomer_gets_what_stays_for_others() {
    let mut kept = Kept::new(ConnectionLimits::default()).await;
    // The endpoint accepts no more,
    kept.target = target(nobody().await);
    assert!(kept.newcomer().await.unwrap().1);
    assert_eq!(kept.newcomer().await.err().unwrap().kind(), Kind::ConnectFailed);
    kept.accepting.abort();
    // or says nothing to those who come.
    let mut kept = Kept::new(ConnectionLimits::default()).await;
    let (address, _full) = full().await;
    kept.target = target(address);
    let soon = timeout(kept.dialer.connect_timeout / 2, kept.newcomer()).await;
    assert!(soon.expect("before it is given up").unwrap().1);
    assert_eq!(kept.newcomer().await.err().unwrap().kind(), Kind::ConnectTimeout);
    kept.accepting.abort();
}
