//! Tests of accepting: the door, the drain, and the queue between them.

use super::*;
use std::sync::Mutex;
use tokio::{io::AsyncReadExt, task::LocalSet};

struct Stand {
    address: SocketAddr,
    door: watch::Sender<Door>,
    end: drain::Trigger,
    /// Connections that were served; dropping them ends them.
    served: Arc<Mutex<Vec<tokio::sync::oneshot::Sender<()>>>>,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

fn stand(door: Door) -> Stand {
    stand_for(1, door)
}

fn stand_for(at_once: usize, door: Door) -> Stand {
    let bound = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
    let ((end, stop), (door, doorway)) = (drain::channel(), watch::channel(door));
    let accepting = Accepting { metrics: Metrics::new(100), door: doorway, stop, at_once };
    let served = Arc::new(Mutex::new(Vec::new()));
    let serving = served.clone();
    let serve = move |tcp: TcpStream, _| {
        let (end, ended) = tokio::sync::oneshot::channel();
        serving.lock().unwrap().push(end);
        async move {
            let _ = ended.await;
            drop(tcp);
        }
    };
    let task = tokio::task::spawn_local(accepting.run(bound.sockets, Places::new(100), serve));
    Stand { address: bound.address, door, end, served, task }
}

impl Stand {
    async fn served(&self, n: usize) {
        while self.served.lock().unwrap().len() < n {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn who_comes_to_a_shut_door_waits_and_is_served_when_it_opens() {
    let test = async {
        let stand = stand(Door::Shut);
        let mut waiting = TcpStream::connect(stand.address).await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(100), waiting.read_u8()).await;
        assert!(silent.is_err() && stand.served.lock().unwrap().is_empty());
        stand.door.send_replace(Door::Open);
        stand.served(1).await;
        // When the sockets are another process's, they are let go: here there is none, so the port is free.
        stand.door.send_replace(Door::Gone);
        stand.task.await.unwrap().unwrap();
        assert!(TcpStream::connect(stand.address).await.is_err());
    };
    LocalSet::new().run_until(test).await;
}

/// How many of sixty are served by two sockets when the first one is.
async fn in_one_turn(at_once: usize) -> usize {
    let stand = stand_for(at_once, Door::Shut);
    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(TcpStream::connect(stand.address).await.unwrap());
    }
    stand.door.send_replace(Door::Open);
    let served = || stand.served.lock().unwrap().len();
    while served() == 0 {
        tokio::task::yield_now().await;
    }
    let first = served();
    stand.served(60).await;
    first
}

#[tokio::test]
async fn a_crowd_leaves_room_for_others() {
    let test = async {
        let (few, more) = (in_one_turn(1).await, in_one_turn(4).await);
        assert!(few <= 4 && more <= 10 && few < more, "{few} and {more} in one turn");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_listener_that_drains_accepts_for_its_time() {
    let test = async {
        let stand = stand(Door::Open);
        let until = Accept::For(Duration::from_millis(300));
        stand.end.begin_as(How { accept: until, ..How::AT_ONCE });
        let began = Instant::now();
        let _first = TcpStream::connect(stand.address).await.unwrap();
        stand.served(1).await;
        stand.task.await.unwrap().unwrap();
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert!(TcpStream::connect(stand.address).await.is_err());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_listener_may_accept_until_nobody_has_been_there_for_a_while() {
    let test = async {
        let stand = stand(Door::Open);
        let _one = TcpStream::connect(stand.address).await.unwrap();
        stand.served(1).await;
        let until = Accept::UntilQuiet(Duration::from_millis(200));
        stand.end.begin_as(How { accept: until, ..How::AT_ONCE });
        // Somebody is there: it goes on.
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(!stand.task.is_finished());
        let _two = TcpStream::connect(stand.address).await.unwrap();
        stand.served(2).await;
        let left = Instant::now();
        stand.served.lock().unwrap().clear();
        stand.task.await.unwrap().unwrap();
        assert!(left.elapsed() >= Duration::from_millis(190), "{:?}", left.elapsed());
    };
    LocalSet::new().run_until(test).await;
}

#[test]
fn every_thread_has_a_socket_and_none_is_left_out() {
    for (sockets, threads) in [(1, 1), (2, 2), (1, 3), (4, 2), (3, 2)] {
        let shares = bind("127.0.0.1:0".parse().unwrap(), sockets).unwrap().share(threads).unwrap();
        assert_eq!(shares.len(), threads);
        assert!(shares.iter().all(|share| !share.is_empty()), "{sockets} for {threads}");
        assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), sockets.max(threads));
    }
}

#[test]
fn sockets_of_another_address_are_not_taken() {
    let fds = || bind("127.0.0.1:0".parse().unwrap(), 2).unwrap().copies().unwrap();
    let any = Bound::taken(fds(), "127.0.0.1:0".parse().unwrap()).unwrap();
    assert_eq!(any.sockets.len(), 2);
    assert!(Bound::taken(fds(), "127.0.0.1:1".parse().unwrap()).is_none());
    assert!(Bound::taken(fds(), "0.0.0.0:0".parse().unwrap()).is_none());
    assert!(Bound::taken(vec![], "127.0.0.1:0".parse().unwrap()).is_none());
}

#[tokio::test]
async fn what_is_accepted_sends_at_once_and_keeps_little_as_its_listening_socket() {
    let mut bound = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    // Taken over from a process that set nothing.
    let bare = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = bare.local_addr().unwrap();
    let taken = Bound::taken(vec![bare.into()], address).unwrap();
    bound.sockets.extend(taken.sockets);
    for socket in bound.sockets {
        let address = socket.local_addr().unwrap();
        let listener = TcpListener::from_std(socket).unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap(), "{address}");
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), 64 * 1024, "{address}");
    }
}
