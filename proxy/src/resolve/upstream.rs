//! Asks the resolvers of this machine: a question's bytes go to one of them as they are, and its answer's bytes come back
//! as they are. One socket a question, so that each has a source port of its own and nobody can guess it (RFC 5452).

use super::Conf;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How often a question is asked; each time another resolver, where there are several.
const TRIES: usize = 3;
/// How long one try may take. All of them are over before an application's own resolver gives up, after 5 s.
const TRY: Duration = Duration::from_millis(1500);
/// The longest answer over UDP. (Nobody announces room for more than 4 KiB.)
const MAX_DATAGRAM: usize = 16 * 1024;
/// The id of a message, which is all that every message has.
const ID: usize = 2;

/// How a question travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// As a datagram.
    Udp,
    /// With its length before it (RFC 1035 §4.2.2).
    Tcp,
}

/// The resolvers.
#[derive(Debug)]
pub struct Upstream {
    servers: Vec<SocketAddr>,
    /// The one that answered last: a dead one before it costs its time once, not for each question.
    good: AtomicUsize,
}

impl Upstream {
    /// Those of a machine.
    pub fn new(conf: Conf) -> Self {
        Self { servers: conf.servers, good: AtomicUsize::new(0) }
    }

    /// Asks, and gives the answer, whatever it says.
    ///
    /// # Errors
    /// No resolver has answered in time (4.5 s at most), or there is none.
    pub async fn ask(&self, question: &[u8], over: Over) -> io::Result<Vec<u8>> {
        let first = self.good.load(Ordering::Relaxed);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for n in 0..TRIES {
            let at = (first + n) % self.servers.len().max(1);
            let Some(server) = self.servers.get(at) else { break };
            let answer = match over {
                Over::Udp => timeout(TRY, udp(*server, question)).await,
                Over::Tcp => timeout(TRY, tcp(*server, question)).await,
            };
            match answer {
                Ok(Ok(answer)) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

async fn udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: the kernel leaves out what others send, and tells when nobody listens there.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length == MAX_DATAGRAM {
            return Err(io::Error::other("its answer is too long"));
        }
        if answer.get(..ID) == question.get(..ID) && length > ID {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true).ok();
    write(&mut stream, question).await?;
    let answer = read(&mut stream).await?;
    if answer.get(..ID) == question.get(..ID) {
        Ok(answer)
    } else {
        Err(io::Error::other("it answered another question"))
    }
}

/// Reads one message with its length before it.
///
/// # Errors
/// The connection ended or broke.
pub async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message with its length before it, in one go: resolvers wait for what comes in pieces.
///
/// # Errors
/// It is longer than 65,535 bytes, or the connection broke.
pub async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(servers: &[SocketAddr]) -> Upstream {
        Upstream::new(Conf { servers: servers.to_vec() })
    }

    /// Answers each datagram with what `answers` makes of it.
    async fn server(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = vec![0; 1024];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                for answer in answers(&buffer[..length]) {
                    socket.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn bytes_go_and_come_as_they_are_and_what_answers_another_question_is_left_out() {
        let address = server(|q| vec![b"xx other".to_vec(), vec![1], [q, b" and more"].concat()]).await;
        let answer = upstream(&[address]).ask(b"id whatever it is", Over::Udp).await.unwrap();
        assert_eq!(answer, b"id whatever it is and more");
    }

    #[tokio::test]
    async fn a_resolver_that_is_gone_is_passed_over_and_not_tried_first_again() {
        let closed = { UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
        let alive = server(|q| vec![q.to_vec()]).await;
        let upstream = upstream(&[closed, alive]);
        assert_eq!(upstream.ask(b"id?", Over::Udp).await.unwrap(), b"id?");
        assert_eq!(upstream.good.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_comes_to_an_end() {
        let silent = server(|_| vec![]).await;
        let began = tokio::time::Instant::now();
        let error = upstream(&[silent]).ask(b"id?", Over::Udp).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() <= TRY * TRIES as u32 + Duration::from_millis(100));
        let error = upstream(&[]).ask(b"id?", Over::Udp).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn over_tcp_a_message_has_its_length_before_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = read(&mut stream).await.unwrap();
            write(&mut stream, &[&asked[..], &[7; 40_000]].concat()).await.unwrap();
        });
        let answer = upstream(&[address]).ask(b"id?", Over::Tcp).await.unwrap();
        assert_eq!((answer.len(), &answer[..3]), (40_003, &b"id?"[..]));
    }
}
