//! What only the kernel and the allocator can do: all that is `unsafe` in this project.
#![allow(unsafe_code)]

use rustix::{
    mm::{Advice, madvise},
    process::{getpriority_process, setpriority_process},
};
use std::{fs, io, ops::Range, time::Duration};

/// Has the allocator give back to the kernel what this thread has freed.
pub(crate) fn collect() {
    // SAFETY: it may be called at any time; it frees what nobody has.
    unsafe {
        libmimalloc_sys::mi_collect(true);
    }
}

/// Pages of the program that nobody can have written: a private mapping of a file.
pub(crate) struct Unwritten(Range<usize>);

impl Unwritten {
    /// Lets go of them; how many bytes they cover.
    ///
    /// # Errors
    /// What the kernel says of it.
    pub(crate) fn let_go(self) -> io::Result<usize> {
        let start = std::ptr::with_exposed_provenance_mut(self.0.start);
        // SAFETY: the kernel says of this mapping that it is of a file, cannot be written, and holds no page that
        // differs from the file: what comes back is what was there.
        unsafe { madvise(start, self.0.len(), Advice::LinuxDontNeed) }?;
        Ok(self.0.len())
    }
}

/// All such pages of this process.
///
/// # Errors
/// The kernel does not tell.
pub(crate) fn unwritten() -> io::Result<Vec<Unwritten>> {
    Ok(listed(&fs::read_to_string("/proc/self/smaps")?).into_iter().map(Unwritten).collect())
}

/// The mappings of files that are private, not writable, and have never been written (proc_pid_smaps(5)).
fn listed(smaps: &str) -> Vec<Range<usize>> {
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

/// This thread comes after those that are not so nice (setpriority(2), "C library/kernel differences": of this thread
/// alone), and lets go at once for whoever has a shorter slice than this (sched_setattr(2); from Linux 6.12 on, before
/// that it has no effect). What it has of the processor in the long run follows from its niceness alone.
pub(crate) fn come_after(nice: i32, slice: Duration) {
    let nice = getpriority_process(None).map(|own| (own + nice).min(19));
    let done = nice.and_then(|nice| setpriority_process(None, nice).map(|()| nice));
    if let Err(error) = done.map_err(io::Error::from).and_then(|nice| set_slice(nice, slice)) {
        tracing::debug!(%error, "a thread is not as nice to others as it should be");
    }
}

fn set_slice(nice: i32, slice: Duration) -> io::Result<()> {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or_default(),
        sched_policy: 0,
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY.unsigned_abs().into(),
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: of this thread (0); the kernel reads as many bytes of the structure as it says it has.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_comes_after_others_has_its_niceness_and_its_slice() {
        std::thread::spawn(|| {
            let nice = getpriority_process(None).unwrap();
            come_after(5, Duration::from_millis(20));
            assert_eq!(getpriority_process(None).unwrap(), (nice + 5).min(19));
            let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
            let version: Vec<u32> = release.split(['.', '-']).take(2).map_while(|n| n.parse().ok()).collect();
            // Where the kernel has slices and tells of them.
            let told = fs::read_to_string("/proc/thread-self/sched").unwrap_or_default();
            let slice = told.lines().find_map(|line| line.strip_prefix("se.slice")?.rsplit(' ').next());
            if let Some(slice) = slice.filter(|_| version >= vec![6, 12]) {
                assert_eq!(slice, "20000000");
            }
        })
        .join()
        .unwrap();
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
        assert_eq!(listed(&smaps.concat()), [0x1000..0x3000, 0x3000..0x4000]);
        assert!(listed("nonsense\n\n-: r-xp\nAnonymous: 0\n").is_empty());
    }
}
