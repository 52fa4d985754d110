//! An application of the tests that notes every byte it gets, and answers with the bytes it is told: also late, too few,
//! too many, before it is asked, or not at all.

use crate::{
    eventually, humble,
    message::{Message, Reader, framing_of_request},
};
use std::{
    io,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// What it does when a request's head has come.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads the request's body.
    ReadBody,
    /// Reads up to the end of these bytes, of whatever protocol.
    ReadPast(&'static [u8]),
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes so many times.
    Repeat(&'static [u8], usize),
    /// The same, on threads that come last.
    Humbly(&'static [u8], usize),
    /// Waits until the test calls [`Upstream::release`].
    Hold,
    /// Pauses: what a slow server does.
    Pause(Duration),
    /// Says that it sends nothing more, and goes on reading.
    HalfClose,
    /// Closes.
    Close,
    /// Closes with a reset.
    Reset,
    /// From here on the connection is no HTTP: sends back what comes, and ends when the other side has.
    Echo,
    /// Reads to the end and says nothing.
    Mute,
}

/// One connection as it was.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// Every byte that came.
    pub bytes: Vec<u8>,
    /// The requests in them, taken strictly.
    pub requests: Vec<Message>,
    /// What could not be taken for a request, or was cut off.
    pub wrong: Option<String>,
    /// Whether the other side has ended its half.
    pub ended: bool,
}

type Script = Arc<dyn Fn(&Message) -> Vec<Step> + Send + Sync>;
type Notes = Arc<Mutex<Vec<Conversation>>>;

/// A running application.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    notes: Notes,
    released: watch::Sender<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    /// Starts one that does what `script` says of each request.
    pub async fn start(script: impl Fn(&Message) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (script, notes): (Script, Notes) = (Arc::new(script), Notes::default());
        let (released, release) = watch::channel(0);
        let noted = notes.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                tcp.set_nodelay(true).ok();
                let number = {
                    let mut all = noted.lock().expect("notes");
                    all.push(Conversation::default());
                    all.len() - 1
                };
                connections.spawn(converse(tcp, Pen { notes: noted.clone(), number }, script.clone(), release.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, notes, released, task }
    }

    /// One that reads every request and says `200` with two bytes.
    pub async fn ok() -> Self {
        Self::start(|_| vec![Step::ReadBody, Step::Send(OK.to_vec())]).await
    }

    /// All connections so far.
    pub fn conversations(&self) -> Vec<Conversation> {
        self.notes.lock().expect("notes").clone()
    }

    /// All requests so far, in the order of their connections.
    pub fn requests(&self) -> Vec<Message> {
        self.conversations().into_iter().flat_map(|c| c.requests).collect()
    }

    /// The only request so far.
    pub fn one(&self) -> Message {
        let mut all = self.requests();
        assert_eq!(all.len(), 1, "{:#?}", all.iter().map(Message::shown).collect::<Vec<_>>());
        all.remove(0)
    }

    /// Waits for the `n`th request, and until it has come whole.
    pub async fn whole(&self, n: usize) -> Message {
        eventually("the request has come whole", 20, || async {
            self.requests().into_iter().nth(n).filter(|r| r.complete)
        })
        .await
    }

    /// Lets those go on that hold.
    pub fn release(&self) {
        self.released.send_modify(|n| *n += 1);
    }

    /// Forgets what came.
    pub fn forget(&self) {
        for conversation in self.notes.lock().expect("notes").iter_mut() {
            *conversation = Conversation { ended: conversation.ended, ..Conversation::default() };
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What [`Upstream::ok`] answers.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Writes into the notes of one connection.
#[derive(Clone)]
struct Pen {
    notes: Notes,
    number: usize,
}

impl Pen {
    fn note(&self, what: impl FnOnce(&mut Conversation)) {
        what(&mut self.notes.lock().expect("notes")[self.number]);
    }
}

async fn converse(tcp: TcpStream, pen: Pen, script: Script, mut release: watch::Receiver<u64>) {
    let (read, mut write) = tcp.into_split();
    let tap = pen.clone();
    let mut reader = Reader::new(read).tapped(move |bytes| tap.note(|c| c.bytes.extend_from_slice(bytes)));
    loop {
        let head = match reader.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return pen.note(|c| c.ended = true),
            Err(wrong) => return pen.note(|c| c.wrong = Some(wrong)),
        };
        let mut message = Message { head, ..Message::default() };
        pen.note(|c| c.requests.push(message.clone()));
        for step in script(&message) {
            match act(step, &mut reader, &mut write, &mut message, &mut release).await {
                Ok(Next::Step) => pen.note(|c| {
                    if let Some(last) = c.requests.last_mut() {
                        last.clone_from(&message);
                    }
                }),
                Ok(Next::Over) => return pen.note(|c| c.ended = true),
                Ok(Next::Reset) => {
                    // Dropped, it would say FIN first.
                    write.forget();
                    return pen.note(|c| c.ended = true);
                }
                Err(wrong) => return pen.note(|c| c.wrong = Some(wrong)),
            }
        }
    }
}

enum Next {
    Step,
    Over,
    Reset,
}

async fn repeat(write: &mut (impl AsyncWrite + Unpin), bytes: &[u8], times: usize) -> io::Result<()> {
    for _ in 0..times {
        write.write_all(bytes).await?;
        // Others are answered meanwhile.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn act(
    step: Step,
    reader: &mut Reader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    message: &mut Message,
    release: &mut watch::Receiver<u64>,
) -> Result<Next, String> {
    match step {
        Step::ReadBody => {
            let framing = framing_of_request(&message.head)?;
            reader.body(framing, message).await?;
        }
        Step::ReadPast(mark) => {
            reader.until(mark).await?;
        }
        Step::Send(bytes) => write.write_all(&bytes).await.map_err(|e| e.to_string())?,
        Step::Repeat(bytes, times) => repeat(write, bytes, times).await.map_err(|e| e.to_string())?,
        Step::Humbly(bytes, times) => {
            // The socket by another descriptor: a runtime of its own has to know it.
            let same = write.as_ref().as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
            let work = async move { repeat(&mut TcpStream::from_std(same.into())?, bytes, times).await };
            let done = AbortOnDropHandle::new(humble::shared().spawn(work)).await;
            done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        }
        Step::Hold => {
            release.changed().await.map_err(|e| e.to_string())?;
        }
        Step::Pause(time) => tokio::time::sleep(time).await,
        Step::HalfClose => write.shutdown().await.map_err(|e| e.to_string())?,
        Step::Close => return Ok(Next::Over),
        Step::Reset => {
            write.as_ref().set_zero_linger().map_err(|e| e.to_string())?;
            return Ok(Next::Reset);
        }
        Step::Echo => loop {
            let bytes = reader.some().await?;
            if bytes.is_empty() {
                write.shutdown().await.map_err(|e| e.to_string())?;
                return Ok(Next::Over);
            }
            write.write_all(&bytes).await.map_err(|e| e.to_string())?;
        },
        Step::Mute => {
            while !reader.some().await?.is_empty() {}
            return Ok(Next::Over);
        }
    }
    Ok(Next::Step)
}
