//! Addresses for what has none of its own: so that a name can be answered with one, and a captured connection to it be
//! led back to who has the name.
//!
//! They follow from the name alone, so that control planes that know the same documents give the same addresses, also
//! after a restart. Where two names would get the same one, the older document keeps it. The ranges lead nowhere in the
//! world: IPv4's class E (RFC 1112 §4, never assigned), and a prefix of our own among IPv6's local ones (RFC 4193).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// 240.240.0.0/12
const V4: u32 = 0xF0F0_0000;
const BITS: u32 = 20;
const MASK: u32 = (1 << BITS) - 1;
/// fd57:6569:7200::/48
const V6: [u16; 3] = [0xFD57, 0x6569, 0x7200];
/// How often another address is looked for where one is taken. (With 100,000 names in a million addresses one in ten is.)
const TRIES: u32 = 64;

/// An address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Virtual {
    /// In 240.240.0.0/12.
    pub v4: Ipv4Addr,
    /// In fd57:6569:7200::/48.
    pub v6: Ipv6Addr,
}

impl Virtual {
    /// Both.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// Whether an address is one that only we give.
pub fn is_virtual(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.to_bits() & !MASK == V4,
        IpAddr::V6(v6) => v6.segments()[..3] == V6,
    }
}

/// Gives each name its addresses; older ones come first. One that finds no free address in so many tries gets none.
pub(super) fn assign(names: impl IntoIterator<Item = Arc<str>>) -> BTreeMap<Arc<str>, Virtual> {
    let mut taken = BTreeSet::new();
    let mut given = BTreeMap::new();
    for name in names {
        let free = (0..TRIES).map(|n| index(&name, n)).find(|n| taken.insert(*n));
        if let Some(n) = free {
            given.insert(name, at(n));
        }
    }
    given
}

fn index(name: &str, n: u32) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(&n.to_be_bytes());
    let hash = hasher.finalize();
    let [a, b, c, d, ..] = *hash.as_bytes();
    // Neither the first nor the last of the range: they look like a network's and a broadcast address.
    1 + u32::from_be_bytes([a, b, c, d]) % (MASK - 1)
}

fn at(n: u32) -> Virtual {
    let [a, b, c] = V6;
    let (high, low) = ((n >> 16) as u16, (n & 0xFFFF) as u16);
    Virtual { v4: Ipv4Addr::from_bits(V4 | n), v6: Ipv6Addr::new(a, b, c, 0, 0, 0, high, low) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<Arc<str>> {
        (0..n).map(|n| format!("name-{n}").into()).collect()
    }

    #[test]
    fn every_name_has_its_own_and_keeps_it_when_younger_ones_come() {
        let few = assign(names(1_000));
        let many = assign(names(20_000));
        assert_eq!(many.len(), 20_000);
        assert!(few.iter().all(|(name, address)| many[name] == *address), "older ones keep theirs");
        let v4: BTreeSet<_> = many.values().map(|v| v.v4).collect();
        let v6: BTreeSet<_> = many.values().map(|v| v.v6).collect();
        assert_eq!((v4.len(), v6.len()), (20_000, 20_000));
        assert!(many.values().flat_map(|v| v.both()).all(is_virtual));
        // What is written down here is what callers may have in their caches.
        assert_eq!(few["name-0"], assign(names(1))["name-0"]);
    }

    #[test]
    fn other_addresses_are_not_taken_for_ours() {
        for ours in ["240.240.0.1", "240.255.255.254", "fd57:6569:7200::1"] {
            assert!(is_virtual(ours.parse().unwrap()), "{ours}");
        }
        for other in ["240.239.255.255", "241.0.0.1", "10.96.0.7", "fd57:6569:7201::1", "::ffff:240.240.0.1"] {
            assert!(!is_virtual(other.parse().unwrap()), "{other}");
        }
    }
}
