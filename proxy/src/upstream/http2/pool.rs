//! One thread's HTTP/2 connections to an endpoint, each shared by many requests.

use super::{Connection, Stream};
use crate::{
    error::{Error, Kind, Result},
    upstream::{
        connect::{Dialer, MAX_STREAMS, Place},
        exchange::{Exchange, Message, Unsent},
    },
};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The connections.
#[derive(Default)]
pub(in crate::upstream) struct Shared {
    open: Mutex<Vec<One>>,
    dialing: tokio::sync::Mutex<()>,
}

struct One {
    connection: Connection,
    retire_at: Option<Instant>,
}

impl Shared {
    /// Lets nothing new onto them; each ends with its last response.
    pub(in crate::upstream) fn close(&self) {
        self.open.lock().clear();
    }

    /// Sends one request and waits for its response's headers.
    pub(in crate::upstream) async fn send(
        &self,
        dialer: &Dialer,
        place: Place<'_>,
        mut message: Message,
    ) -> Result<Exchange, Unsent> {
        let mut reused = true;
        // A connection that is going away gives the request back: at most three times, then it is the endpoint's fault.
        for _ in 0..3 {
            let (mut connection, stream) = match self.with_room() {
                Some(found) => found,
                None => match Box::pin(self.dial(dialer, place)).await {
                    Ok((connection, stream, fresh)) => {
                        reused = !fresh;
                        (connection, stream)
                    }
                    Err(error) => return Err(Unsent::never_sent(error, message)),
                },
            };
            match connection.send(message, stream, reused).await {
                Ok(exchange) => return Ok(exchange),
                Err(unsent) => match unsent.message {
                    Some(same) => message = same,
                    None => return Err(unsent),
                },
            }
        }
        Err(Unsent::never_sent(Kind::UpstreamClosed.detail("its connections close at once"), message))
    }

    /// A connection, and whether it is new.
    async fn dial(&self, dialer: &Dialer, place: Place<'_>) -> Result<(Connection, Stream, bool)> {
        // One at a time: those who wait here usually find room on the connection that the first one made.
        let _one = self.dialing.lock().await;
        if let Some((connection, stream)) = self.with_room() {
            return Ok((connection, stream, false));
        }
        let Some(permit) = dialer.limits.connections.try_acquire() else {
            // At the limit of connections, the least used one takes more streams than it would.
            return self.least_used().map(|(c, s)| (c, s, false)).ok_or_else(at_limit);
        };
        let connection = dialer.http2(place, permit).await?;
        let stream = Stream::start(&connection.state);
        let retire_at = dialer.retire_at(Instant::now());
        self.open.lock().push(One { connection: connection.clone(), retire_at });
        Ok((connection, stream, true))
    }

    fn with_room(&self) -> Option<(Connection, Stream)> {
        let mut open = self.open.lock();
        if open.is_empty() {
            return None;
        }
        let now = open.iter().any(|one| one.retire_at.is_some()).then(Instant::now);
        let serves =
            |one: &One| !one.connection.is_closed() && one.retire_at.is_none_or(|at| now.is_none_or(|now| now < at));
        if !open.iter().all(serves) {
            open.retain(serves);
        }
        let one = open.iter().find(|one| one.connection.streams() < MAX_STREAMS)?;
        Some((one.connection.clone(), Stream::start(&one.connection.state)))
    }

    fn least_used(&self) -> Option<(Connection, Stream)> {
        let open = self.open.lock();
        let least = open.iter().min_by_key(|one| one.connection.streams())?;
        Some((least.connection.clone(), Stream::start(&least.connection.state)))
    }
}

pub(in crate::upstream) fn at_limit() -> Error {
    Kind::Overflow.detail("the cluster's limit of connections is reached")
}
