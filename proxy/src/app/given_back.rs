//! Memory of the program that only its start has used, given back.
//!
//! A page of a program stays mapped, and counts as the process's own, from its first use on; half of those that the start
//! touches are never needed again. Once the first configuration is in use, all pages that nobody can have written are let
//! go of. What is still needed comes back with its next use from the page cache, sixteen pages at a time (the kernel's
//! `fault_around_bytes`); `proxy/order.txt` has put together what requests need.

use rustix::mm::{Advice, madvise};
use std::{fs, io, ops::Range, time::Duration};

/// From the first configuration on: certificates are there and probes answered by then.
const SETTLED: Duration = Duration::from_secs(1);

/// Gives back what the start has used, a little later.
pub(super) async fn soon() {
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
