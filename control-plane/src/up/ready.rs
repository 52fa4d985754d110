//! Waiting until children answer, with a message that names who does not.

use super::process::{Process, State};
use crate::failure::Failure;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

/// Between two questions.
const INTERVAL: Duration = Duration::from_millis(25);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(2);

/// What tells that a child is ready.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    /// Whose.
    pub(super) child: Arc<str>,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// The page that must answer 200; `None`: a connection is enough.
    pub(super) page: Option<&'static str>,
}

/// Waits for all. A child that ended for good ends the wait.
pub(super) async fn wait(probes: &[Probe], children: &[Process], limit: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    for probe in probes {
        let child = children.iter().find(|c| c.name() == &*probe.child);
        while !answers(probe).await {
            let state = child.map(|c| c.view().state);
            if let Some(State::Stopped { last }) = &state {
                let how = last.as_deref().unwrap_or("ended");
                return Err(Failure::failed(format!("{} {how} before it was ready", probe.child), LOGS));
            }
            if Instant::now() >= deadline {
                return Err(late(probe, state, limit));
            }
            sleep(INTERVAL).await;
        }
    }
    Ok(())
}

const LOGS: &str = "its lines are above, and in the folder of --logs";

fn late(probe: &Probe, state: Option<State>, limit: Duration) -> Failure {
    let doing = match state {
        Some(State::Running { pid }) => format!("it runs as process {pid}"),
        Some(State::Waiting { last }) => format!("it fails again and again: {last}"),
        _ => "it does not run".into(),
    };
    let what = match probe.page {
        Some(page) => format!("http://{}{page} does not answer 200", probe.address),
        None => format!("nothing listens on {}", probe.address),
    };
    Failure::failed(format!("{} was not ready within {limit:?}: {what}; {doing}", probe.child), LOGS)
}

async fn answers(probe: &Probe) -> bool {
    let asked = async {
        let mut tcp = TcpStream::connect(probe.address).await?;
        let Some(page) = probe.page else { return Ok(true) };
        let request = format!("GET {page} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", probe.address);
        tcp.write_all(request.as_bytes()).await?;
        let mut head = [0; 12];
        tcp.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(&head[9..] == b"200")
    };
    matches!(timeout(ANSWER, asked).await, Ok(Ok(true)))
}
