//! A way between two processes that can be cut: while it is, nothing passes and nobody is told, as when a network parts.

use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// A port that leads to another one.
pub struct Wire {
    /// Where it begins.
    pub address: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A whole one, to `far`.
    pub async fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let whole = Arc::new(watch::Sender::new(true));
        let state = whole.clone();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, far, state.subscribe()));
            }
        });
        Self { address, whole, task }
    }

    /// From now on nothing passes, on no connection, and new ones come to nothing.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Everything passes again, also what was sent in the meantime.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: TcpStream, far: SocketAddr, mut whole: watch::Receiver<bool>) {
    if whole.wait_for(|whole| *whole).await.is_err() {
        return;
    }
    let Ok(Ok(far)) = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(far)).await else { return };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let back = whole.clone();
    tokio::select! {
        () = copy(near_in, far_out, whole) => {}
        () = copy(far_in, near_out, back) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut whole: watch::Receiver<bool>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(n) = from.read(&mut bytes).await {
        if whole.wait_for(|whole| *whole).await.is_err() || n == 0 || to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
}
