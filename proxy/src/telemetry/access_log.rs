//! The access log: one JSON object per request, on standard output. Off by default.
//!
//! A data thread only hands the record over; a thread of the log's own writes the text. The hand-over is bounded: what
//! the reader of our output does not take in time is dropped and counted, and no request ever waits for it.

mod line;

use super::{RequestRecord, registry::Counter};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::{
    io::{self, Write},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel},
    },
    time::Duration,
};
use weir_config::model::Fraction;

const WAITING_AT_MOST: usize = 4_096;

/// Which requests are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// None.
    #[default]
    Off,
    /// Those that failed: [`RequestRecord::is_error`].
    Errors,
    /// Those that failed, and a share of the others.
    Sampled(Fraction),
    /// All.
    All,
}

/// A text that is no [`Mode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no access log mode: use `off`, `errors`, `all`, or a share such as `1%`")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;
    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let share = |t: &str| Fraction::from_percent(t.strip_suffix('%')?.trim().parse().ok()?);
        match text {
            "off" => Ok(Self::Off),
            "errors" => Ok(Self::Errors),
            "all" => Ok(Self::All),
            text => share(text).map(Self::Sampled).ok_or_else(|| UnknownMode(text.chars().take(100).collect())),
        }
    }
}

/// The log. Cheap to share; [`AccessLog::close`] writes out what is waiting.
#[derive(Debug)]
pub struct AccessLog {
    mode: AtomicU64,
    /// `None` once it is closed.
    queue: ArcSwapOption<SyncSender<Box<RequestRecord>>>,
    /// Hangs up when the writer has ended.
    ended: Mutex<Receiver<()>>,
    dropped: Arc<Counter>,
}

impl AccessLog {
    /// A log to standard output.
    pub fn to_stdout(mode: Mode, dropped: Arc<Counter>) -> Arc<Self> {
        Self::to(io::stdout(), mode, dropped)
    }

    /// A log to anything that takes lines. `dropped` counts what could not be written.
    pub fn to(out: impl Write + Send + 'static, mode: Mode, dropped: Arc<Counter>) -> Arc<Self> {
        let (queue, records) = sync_channel(WAITING_AT_MOST);
        let lost = dropped.clone();
        let (ending, ended) = channel();
        let thread = std::thread::Builder::new().name("access-log".into());
        let started = thread.spawn(move || write_all(out, &records, &lost, ending)).is_ok();
        Arc::new(Self {
            mode: AtomicU64::new(encode(mode)),
            queue: ArcSwapOption::from(started.then(|| Arc::new(queue))),
            ended: Mutex::new(ended),
            dropped,
        })
    }

    /// Whether anything at all is logged: if not, a record is not worth filling for the log's sake.
    pub fn is_on(&self) -> bool {
        self.mode.load(Relaxed) != encode(Mode::Off)
    }

    /// Another mode, from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.store(encode(mode), Relaxed);
    }

    /// Whether this request is logged, by a uniform draw.
    pub fn wants(&self, record: &RequestRecord, draw: u64) -> bool {
        match decode(self.mode.load(Relaxed)) {
            Mode::Off => false,
            Mode::Errors => record.is_error(),
            Mode::Sampled(share) => share.takes((draw % 1_000_000) as u32) || record.is_error(),
            Mode::All => true,
        }
    }

    /// Hands a record to the writer, or counts it as dropped.
    pub fn write(&self, record: Box<RequestRecord>) {
        let taken = self.queue.load().as_ref().is_some_and(|q| q.try_send(record).is_ok());
        if !taken {
            self.dropped.inc();
        }
    }

    /// Writes out what is waiting and ends, at the end of the process. Blocks, for `within` at most: a reader that does
    /// not read must not keep us alive.
    pub fn close(&self, within: Duration) {
        self.queue.store(None);
        let _ = self.ended.lock().recv_timeout(within);
    }
}

/// Writes until the log is closed. Flushes whenever nothing waits, so a line is seen at once when there are few, and
/// many share one write when there are many.
fn write_all(mut out: impl Write, records: &Receiver<Box<RequestRecord>>, lost: &Counter, _ending: Sender<()>) {
    let mut buffer = Vec::with_capacity(16 * 1_024);
    let (mut waiting, mut lines) = (None, 0);
    loop {
        let record = match waiting.take() {
            Some(record) => record,
            None => match records.recv() {
                Ok(record) => record,
                Err(_) => return,
            },
        };
        line::write(&record, &mut buffer);
        lines += 1;
        match records.try_recv() {
            Ok(next) if buffer.len() < 8 * 1_024 => waiting = Some(next),
            next => {
                if out.write_all(&buffer).and_then(|()| out.flush()).is_err() {
                    lost.add(lines);
                }
                buffer.clear();
                lines = 0;
                match next {
                    Ok(next) => waiting = Some(next),
                    Err(TryRecvError::Empty) => {}
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        }
    }
}

/// A mode in one word, so that it is read without a lock.
fn encode(mode: Mode) -> u64 {
    match mode {
        Mode::Off => u64::MAX,
        Mode::Errors => u64::MAX - 1,
        Mode::All => u64::MAX - 2,
        Mode::Sampled(share) => u64::from(share.millionths()),
    }
}

fn decode(word: u64) -> Mode {
    match word {
        u64::MAX => Mode::Off,
        n if n == u64::MAX - 1 => Mode::Errors,
        n => u32::try_from(n).ok().and_then(Fraction::from_millionths).map_or(Mode::All, Mode::Sampled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::telemetry::{Direction, Protocol};
    use std::{sync::mpsc, time::SystemTime};

    fn record(status: u16) -> RequestRecord {
        let (method, uri) = (http::Method::GET, "/a".parse().unwrap());
        let start = SystemTime::UNIX_EPOCH;
        RequestRecord {
            status: Some(status),
            ..RequestRecord::new(start, Direction::Inbound, Protocol::Http1, method, uri)
        }
    }

    /// Takes what is written, and holds the writer up until it is told to go on.
    struct Gate(Arc<Mutex<Vec<u8>>>, mpsc::Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.1.recv();
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn modes_are_read_and_decide() {
        assert_eq!("errors".parse(), Ok(Mode::Errors));
        assert_eq!("1%".parse(), Ok(Mode::Sampled(Fraction::from_percent(1.0).unwrap())));
        assert!("101%".parse::<Mode>().is_err() && "some".parse::<Mode>().is_err());
        let log = AccessLog::to(io::sink(), Mode::Off, Arc::default());
        let (good, bad) = (record(200), RequestRecord { reason: Some(Kind::Overflow), ..record(404) });
        assert!(!log.is_on() && !log.wants(&bad, 0));
        log.set(Mode::Errors);
        assert!(log.wants(&bad, 0) && !log.wants(&good, 0));
        log.set("50%".parse().unwrap());
        assert!(log.wants(&bad, 999_999) && log.wants(&good, 0) && !log.wants(&good, 500_000));
        log.set(Mode::All);
        assert!(log.is_on() && log.wants(&good, 999_999));
    }

    #[test]
    fn a_reader_that_does_not_read_costs_lines_and_not_requests() {
        let (text, dropped) = (Arc::default(), Arc::new(Counter::default()));
        let (go, gate) = mpsc::channel();
        let log = AccessLog::to(Gate(Arc::clone(&text), gate), Mode::All, dropped.clone());
        let sent = WAITING_AT_MOST * 2;
        for _ in 0..sent {
            log.write(Box::new(record(200)));
        }
        assert!(dropped.value() > 0);
        drop(go);
        log.close(Duration::from_secs(30));
        log.write(Box::new(record(200)));
        let lines = text.lock().iter().filter(|b| **b == b'\n').count();
        assert_eq!(lines + dropped.value() as usize, sent + 1);
    }
}
