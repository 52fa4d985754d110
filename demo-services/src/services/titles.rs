//! The titles that exist: made up from their number, the same in every process.

use serde::{Deserialize, Serialize};

/// How many titles there are, `t-0` to `t-499`.
pub const TITLES: u32 = 500;
/// What a title can be.
pub const GENRES: [&str; 6] = ["drama", "comedy", "mystery", "nature", "music", "travel"];

const FIRST: [&str; 10] =
    ["The Last", "A Quiet", "The Glass", "Midnight", "The Other", "Seven", "Deep", "The Long", "Paper", "North"];
const SECOND: [&str; 10] =
    ["River", "Harbour", "Garden", "Signal", "Winter", "Weir", "Letters", "Orchestra", "Island", "Lantern"];

/// A title of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Title {
    /// `t-17`
    pub id: String,
    /// For people.
    pub name: String,
    /// One of [`GENRES`].
    pub genre: String,
}

/// The title of a number, taken modulo [`TITLES`].
pub fn title(n: u32) -> Title {
    let n = n % TITLES;
    let pick = |list: &[&'static str], i: u32| list[i as usize % list.len()];
    Title {
        id: format!("t-{n}"),
        name: format!("{} {}", pick(&FIRST, n), pick(&SECOND, n / 10)),
        genre: pick(&GENRES, n.wrapping_mul(7) / 3).to_owned(),
    }
}

/// The number in an identifier, if there is such a title.
pub fn number(id: &str) -> Option<u32> {
    id.strip_prefix("t-")?.parse().ok().filter(|n| *n < TITLES)
}

/// A well-mixed number from another (the finaliser of SplitMix64).
pub fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A number that belongs to a text.
pub fn mix_text(text: &str) -> u64 {
    text.bytes().fold(0, |n, b| mix(n ^ u64::from(b)))
}
