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

use crate::sys;
use std::{cell::Cell, io, time::Duration};

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
    sys::collect();
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
    let mut length = 0;
    for pages in sys::unwritten()? {
        length += pages.let_go()?;
    }
    Ok(length / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, time::Instant};

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

    #[test]
    fn it_goes_on_after_it_has_let_go() {
        let kib = give_back().unwrap();
        assert!(kib > 512, "{kib}");
        assert_eq!(format!("{}", 0.1 + 0.2), "0.30000000000000004");
    }
}
