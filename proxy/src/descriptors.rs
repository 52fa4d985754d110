//! As many descriptors as may be had, and room for what a crowd brings.
//!
//! The kernel's table of a process's descriptors has room for 64, and twice as many each time it is full. Where there are
//! threads, making room waits until every processor has let go of the old table (a grace period of RCU: `expand_files` in
//! Linux's fs/file.c): whichever thread wanted a descriptor stands still for 5 to 20 ms, and everyone who is in a
//! conversation on it. A crowd of some hundred connections would meet that at each doubling.

use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, getrlimit, setrlimit},
};
use std::io;

/// Room for so many from the beginning: 128 KiB of the kernel's memory.
const ROOM: u64 = 16 * 1024;

/// To be called before there are threads: later it holds up whoever calls. The limit is raised to what this process may
/// have (`ulimit -Hn`).
///
/// # Errors
/// What the kernel says of it. Everything works without it, with pauses and under a lower limit.
pub fn make_room() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some() && limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    let room = limit.current.map_or(ROOM, |limit| limit.min(ROOM));
    // The highest of them, for a moment.
    let highest = i32::try_from(room.saturating_sub(1)).unwrap_or(i32::MAX);
    fcntl_dupfd_cloexec(io::stderr(), highest)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_many() {
        make_room().unwrap();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert!(size.trim().parse::<u64>().unwrap() >= limit.current.unwrap_or(ROOM).min(ROOM), "{size}");
        assert_eq!(limit.current, limit.maximum);
    }
}
