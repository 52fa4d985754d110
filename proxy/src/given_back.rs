//! Memory that is used no longer, given back to the kernel: what of the program only its start has used, and what of the
//! heap a crowd has used.
//!
//! A page of a program stays mapped, and counts as the process's own, from its first use on; half of those that the start
//! touches are never needed again. Once the first configuration is in use, all pages that nobody can have written are let
//! go of. What is still needed comes back with its next use from the page cache, sixteen pages at a time (the kernel's
//! `fault_around_bytes`); `proxy/order.txt` has put together what requests need.
//!
//! The allocator gives a freed page back a little later, when more is freed near it: when a crowd is over (ten thousand
//! requests at once, and then silence), nothing is, and half of what it has used stays. So a data thread on which many
//! exchanges and connections have ended has the allocator give back what is free once they have.

use rustix::mm::{Advice, madvise};
use std::{cell::Cell, fs, io, ops::Range, time::Duration};

/// From the first configuration on: certificates are there and probes answered by then.
const SETTLED: Duration = Duration::from_secs(1);

/// So many exchanges and connections that have ended are worth giving back what they used; fewer within a [`CALM`] are no
/// crowd any more.
const CROWD: u32 = 64;
/// How often a thread sees whether its crowd is over.
const CALM: Duration = Duration::from_secs(1);
/// After so many of them it gives back what is free even so: under a load that never ends, one crowd comes after another.
const MOST: u32 = 10;

thread_local! {
    static ENDED: Cell<u32> = const { Cell::new(0) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// An exchange or a connection of this thread has ended.
pub(crate) fn ended() {
    let ended = ENDED.get().wrapping_add(1);
    ENDED.set(ended);
    if ended >= CROWD && !WATCHED.get() && tokio::runtime::Handle::try_current().is_ok() {
        WATCHED.set(true);
        tokio::spawn(after_the_crowd());
    }
}

async fn after_the_crowd() {
    for _ in 0..MOST {
        ENDED.set(0);
        tokio::time::sleep(CALM).await;
        if ENDED.get() < CROWD {
            break;
        }
    }
    // SAFETY: it may be called at any time; it frees what nobody has.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
    ENDED.set(0);
    WATCHED.set(false);
}

/// Gives back what the start has used, a little later.
pub(crate) async fn soon() {
    tokio::time::sleep(SETTLED).await;
    match give_back() {
        Ok(kib) => tracing::debug!(kib, "pages of the program were let go of"),
        Err(error) => tracing::debug!(%error, "pages of the program stay in memory"),
    }
}

/// Lets go of the pages; how many KiB they covered.
fn give_back() -> io::Result<usize> {
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let mut length = 0;
    for range in unwritten(&smaps) {
        length += range.len();
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the kernel says of this mapping that it is of a file, cannot be written, and holds no page that
        // differs from the file: what comes back is what was there.
        #[allow(unsafe_code)]
        let advised = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
        advised?;
    }
    Ok(length / 1024)
}

/// The mappings of files that are private, not writable, and have never been written (proc_pid_smaps(5)).
fn unwritten(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut range = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !first.ends_with(':') {
            let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
            range = matches!(second, "r--p" | "r-xp").then(|| addresses(first)).flatten().filter(|_| is_file);
        } else if first == "Anonymous:" && second == "0" {
            found.extend(range.take());
        }
    }
    found
}

fn addresses(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// As in the program.
    #[global_allocator]
    static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

    /// Of this process, in MiB.
    fn resident() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()).unwrap();
        kib.parse::<usize>().unwrap() / 1024
    }

    /// Uses 128 MiB in pieces of 4 KiB, and keeps one of a hundred.
    fn crowd() -> Vec<Vec<u8>> {
        let all: Vec<Vec<u8>> = (0..32 * 1024).map(|n| vec![n as u8; 4096]).collect();
        all.into_iter().enumerate().filter_map(|(n, piece)| (n % 100 == 0).then_some(piece)).collect()
    }

    #[tokio::test]
    async fn when_a_crowd_is_over_what_it_has_used_is_given_back() {
        let before = resident();
        let kept = crowd();
        let held = resident();
        assert!(held > before + 64, "the allocator keeps what is free: {before} MiB, then {held}");
        (0..CROWD).for_each(|_| ended());
        let begun = Instant::now();
        while resident() > before + 64 {
            assert!(begun.elapsed() < Duration::from_secs(30), "{before} MiB, then {held}, now {}", resident());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(begun.elapsed() >= CALM);
        drop(kept);
    }

    fn mapping(header: &str, anonymous: u32) -> String {
        format!("{header}\nSize: 4 kB\nRss: 4 kB\nAnonymous: {anonymous} kB\nVmFlags: rd ex mr mw me\n")
    }

    #[test]
    fn only_what_nobody_can_have_written_is_let_go_of() {
        let smaps = [
            mapping("1000-3000 r--p 00000000 fe:00 7 /bin/proxy", 0),
            mapping("3000-4000 r-xp 00002000 fe:00 7 /bin/proxy", 0),
            // Relocated by the loader, then protected.
            mapping("4000-5000 r--p 00003000 fe:00 7 /bin/proxy", 4),
            mapping("5000-6000 rw-p 00004000 fe:00 7 /bin/proxy", 0),
            mapping("6000-7000 rw-p 00000000 00:00 0", 4),
            mapping("7000-8000 r--p 00000000 00:00 0", 0),
            mapping("8000-9000 r--s 00000000 fe:00 8 /shared", 0),
            mapping("9000-a000 r-xp 00000000 00:00 0 [vdso]", 0),
        ];
        assert_eq!(unwritten(&smaps.concat()), [0x1000..0x3000, 0x3000..0x4000]);
        assert!(unwritten("nonsense\n\n-: r-xp\nAnonymous: 0\n").is_empty());
    }

    #[test]
    fn it_goes_on_after_it_has_let_go() {
        let kib = give_back().unwrap();
        assert!(kib > 512, "{kib}");
        assert_eq!(format!("{}", 0.1 + 0.2), "0.30000000000000004");
    }
}
