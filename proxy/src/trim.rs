//! Gives back what only the start needed of the program's own code. The kernel maps sixteen pages around each one that is
//! touched, so that a sidecar that has started and idles shows megabytes of code that it will not run again; pages that
//! it does run come back from the page cache at a fault each.
//!
//! The one file with `unsafe` code: there is no other way to tell the kernel.

#![allow(unsafe_code, reason = "madvise(2) takes addresses; see `let_go` for why these may be given back")]

use rustix::mm::{Advice, madvise};
use std::{fs, ptr};

/// Lets go of the pages of code that are mapped now; how many bytes of mappings were told.
pub fn code() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(code_of).map(|(start, length)| let_go(start, length)).sum()
}

/// Where a mapping of code lies, and how long it is. Code: of a file, private, and never writable, so that it can be read
/// from its file again. (`r--p` is no such thing: pages that the loader has relocated are among them.)
fn code_of(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions) = (words.next()?, words.next()?);
    let path = words.nth(3)?;
    if permissions != "r-xp" || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

fn let_go(start: usize, length: usize) -> usize {
    // SAFETY: the range is one whole mapping of a file, private and without write permission (`code_of`): its pages equal
    // the file's, nobody can have changed them, and the kernel reads them again when they are next executed or read.
    let told = unsafe { madvise(ptr::with_exposed_provenance_mut(start), length, Advice::LinuxDontNeed) };
    if told.is_ok() { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_let_go() {
        let line =
            |permissions: &str, path: &str| format!("55d0a000-55d0c000 {permissions} 00001000 fd:00 12345   {path}");
        assert_eq!(code_of(&line("r-xp", "/usr/bin/weir-proxy")), Some((0x55d0_a000, 0x2000)));
        for (permissions, path) in
            [("r--p", "/a"), ("rw-p", "/a"), ("rwxp", "/a"), ("r-xs", "/a"), ("r-xp", "[vdso]"), ("r-xp", "")]
        {
            assert_eq!(code_of(&line(permissions, path)), None, "{permissions} {path}");
        }
        assert_eq!(code_of("nonsense"), None);
    }

    #[test]
    fn the_program_runs_on_with_less_of_it_resident() {
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|l| l.strip_prefix("RssFile:")).unwrap().trim().to_owned();
            line.strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        assert!(code() > 0);
        let after = resident();
        assert!(after < before, "{before} KiB before, {after} after");
    }
}
