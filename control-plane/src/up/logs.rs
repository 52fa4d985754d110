//! The logs of all children in one place: each line with its child's name in front, coloured on a terminal, and
//! optionally also in a file per child.
//!
//! A terminal that stops reading never stops a child: lines that find the queue full are counted and left out.

use parking_lot::Mutex;
use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::mpsc,
};

/// Lines waiting for the terminal.
const QUEUE: usize = 16_384;
/// A longer line is cut into pieces of this many bytes.
const LONGEST_LINE: usize = 64 * 1024;
/// ANSI colours that can be read on dark and on light ground.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// Where the children's lines go.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Not to the terminal.
    pub quiet: bool,
    /// Also into `<folder>/<child>.log`.
    pub folder: Option<PathBuf>,
    /// To standard error, where standard output is for something else.
    pub to_stderr: bool,
}

/// Takes lines from everywhere and writes them to one place. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: Mutex<Option<mpsc::Sender<String>>>,
    left_out: Arc<AtomicU64>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    folder: Option<PathBuf>,
    colours: bool,
    width: AtomicU64,
}

impl Logs {
    /// Starts the writer.
    ///
    /// # Errors
    /// The folder cannot be made, or no thread can be started.
    pub fn start(options: &Options) -> io::Result<Self> {
        if let Some(folder) = &options.folder {
            std::fs::create_dir_all(folder)?;
        }
        let left_out = Arc::new(AtomicU64::new(0));
        let (queue, writer) = if options.quiet {
            (None, None)
        } else {
            let (tx, rx) = mpsc::channel(QUEUE);
            let (left_out, to_stderr) = (left_out.clone(), options.to_stderr);
            let write = move || match to_stderr {
                true => write_all(rx, &left_out, &mut io::stderr()),
                false => write_all(rx, &left_out, &mut io::stdout()),
            };
            (Some(tx), Some(std::thread::Builder::new().name("logs".into()).spawn(write)?))
        };
        Ok(Self {
            inner: Arc::new(Inner {
                queue: Mutex::new(queue),
                left_out,
                writer: Mutex::new(writer),
                folder: options.folder.clone(),
                colours: (if options.to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() })
                    && std::env::var_os("NO_COLOR").is_none(),
                width: AtomicU64::new(8),
            }),
        })
    }

    /// The pen of one child.
    pub fn pen(&self, name: &str) -> Pen {
        self.inner.width.fetch_max(name.len() as u64, Ordering::Relaxed);
        let colour =
            COLOURS[name.bytes().fold(7usize, |a, b| a.wrapping_mul(31).wrapping_add(b as usize)) % COLOURS.len()];
        let file = self.inner.folder.as_deref().and_then(|f| open(f, name));
        Pen { logs: self.clone(), name: name.into(), colour, file: file.map(|f| Arc::new(Mutex::new(f))) }
    }

    /// Writes what is queued and ends the writer. Later lines are dropped.
    pub async fn close(&self) {
        drop(self.inner.queue.lock().take());
        let writer = self.inner.writer.lock().take();
        if let Some(writer) = writer {
            // A terminal that does not read must not keep the process: the rest is left behind.
            let _ =
                tokio::time::timeout(Duration::from_secs(2), tokio::task::spawn_blocking(move || writer.join())).await;
        }
    }

    fn send(&self, line: String) {
        if let Some(queue) = &*self.inner.queue.lock()
            && queue.try_send(line).is_err()
        {
            self.inner.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes the lines of one child.
#[derive(Debug, Clone)]
pub struct Pen {
    logs: Logs,
    name: Arc<str>,
    colour: u8,
    file: Option<Arc<Mutex<BufWriter<File>>>>,
}

impl Pen {
    /// One line of the child's.
    pub fn line(&self, text: &str) {
        if let Some(file) = &self.file {
            let mut file = file.lock();
            // A full disk must not end the child; its terminal line is still written.
            let _ = writeln!(file, "{text}").and_then(|()| file.flush());
        }
        let width = self.logs.inner.width.load(Ordering::Relaxed) as usize;
        self.logs.send(if self.logs.inner.colours {
            format!("\x1b[{}m{:width$} |\x1b[0m {text}\n", self.colour, self.name)
        } else {
            format!("{:width$} | {text}\n", self.name)
        });
    }

    /// Copies a child's stream, line by line, to its end.
    pub async fn copy(self, stream: impl AsyncRead + Unpin) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            let (used, ended) = match reader.fill_buf().await {
                Ok([]) | Err(_) => break,
                Ok(chunk) => match chunk.iter().position(|b| *b == b'\n') {
                    Some(at) => {
                        line.extend_from_slice(&chunk[..at]);
                        (at + 1, true)
                    }
                    None => {
                        line.extend_from_slice(chunk);
                        (chunk.len(), false)
                    }
                },
            };
            reader.consume(used);
            if ended || line.len() >= LONGEST_LINE {
                self.line(String::from_utf8_lossy(&line).trim_end_matches('\r'));
                line.clear();
            }
        }
        if !line.is_empty() {
            self.line(&String::from_utf8_lossy(&line));
        }
    }
}

fn open(folder: &Path, name: &str) -> Option<BufWriter<File>> {
    let file: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let path = folder.join(format!("{file}.log"));
    match File::options().create(true).append(true).open(&path) {
        Ok(f) => Some(BufWriter::new(f)),
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "no log file for this child");
            None
        }
    }
}

fn write_all(mut queue: mpsc::Receiver<String>, left_out: &AtomicU64, out: &mut dyn Write) {
    while let Some(line) = queue.blocking_recv() {
        let lost = left_out.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "weir | {lost} log lines left out: the terminal reads too slowly");
        }
        // Nobody reads any more (a closed pipe): go on emptying the queue.
        let _ = out.write_all(line.as_bytes()).and_then(|()| if queue.is_empty() { out.flush() } else { Ok(()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_per_child_with_lines_cut_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::start(&Options { quiet: true, folder: Some(folder.path().into()), to_stderr: false }).unwrap();
        let long = "x".repeat(LONGEST_LINE * 2);
        logs.pen("web-1/sidecar").copy(format!("one\ntwo\r\n{long}\nlast").as_bytes()).await;
        logs.close().await;
        let text = std::fs::read_to_string(folder.path().join("web-1-sidecar.log")).unwrap();
        assert!(text.starts_with("one\ntwo\nxxx") && text.ends_with("last\n"), "{}", text.len());
        assert!(text.lines().all(|l| l.len() <= LONGEST_LINE + 8192));
    }
}
