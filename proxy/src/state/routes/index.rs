//! Which of many routes may be meant by a path, without a look at each.
//!
//! All literal texts (whole paths, prefixes, segments) are sorted in one table. The greatest text that is not above a
//! path is the path itself, or has every text that the path begins with as a prefix: from it, links lead to its
//! prefixes, longest first. Each text knows its routes in the order of the list, patterns are one further such list; the
//! lists are merged by that order, so the first candidate that matches is the first of the whole list that does.

use smallvec::SmallVec;
use std::cmp::Ordering;
use weir_config::model::PathMatch;

/// Fewer routes than this are looked through one after the other, which is as quick.
pub(super) const WORTH_IT: usize = 8;

/// From a path to candidates.
#[derive(Debug)]
pub(super) struct Index {
    /// The texts, one after the other.
    text: Box<str>,
    /// In the order of their texts.
    nodes: Box<[Node]>,
    /// The lists of the nodes, and the patterns at the end.
    lists: Box<[u32]>,
    patterns: u32,
}

/// One text, with the places of its lists: those that want this whole path, and those that want it as a beginning.
#[derive(Debug)]
struct Node {
    text: u32,
    text_end: u32,
    whole: u32,
    beginning: u32,
    lists_end: u32,
    /// The longest text that this one begins with and that is wanted as a beginning; [`NOBODY`]: none.
    parent: u32,
}

const NOBODY: u32 = u32::MAX;

type Lists<'l> = SmallVec<[&'l [u32]; 8]>;

impl Index {
    /// Over the paths of routes, in their order.
    pub(super) fn new<'p>(paths: impl Iterator<Item = &'p PathMatch>) -> Self {
        let (mut wanted, mut patterns) = (Vec::new(), Vec::new());
        for (place, path) in (0u32..).zip(paths) {
            match path {
                PathMatch::Exact(text) => wanted.push((text.as_str(), false, place)),
                PathMatch::Prefix(text) | PathMatch::Segments(text) => wanted.push((text.as_str(), true, place)),
                PathMatch::Regex(_) => patterns.push(place),
            }
        }
        wanted.sort_unstable();
        let (mut text, mut nodes, mut lists) = (String::new(), Vec::<Node>::new(), Vec::new());
        // Texts that are wanted as beginnings and that the present one begins with.
        let mut open: Vec<u32> = Vec::new();
        for same in wanted.chunk_by(|a, b| a.0 == b.0) {
            let (this, start) = (same[0].0, text.len());
            while open.last().is_some_and(|n| !this.starts_with(nodes[*n as usize].of(&text))) {
                open.pop();
            }
            text.push_str(this);
            let whole = lists.len();
            let beginning = whole + same.iter().take_while(|(_, beginning, _)| !beginning).count();
            lists.extend(same.iter().map(|(_, _, place)| *place));
            let parent = open.last().copied().unwrap_or(NOBODY);
            if beginning < lists.len() {
                open.push(nodes.len() as u32);
            }
            nodes.push(Node {
                text: start as u32,
                text_end: text.len() as u32,
                whole: whole as u32,
                beginning: beginning as u32,
                lists_end: lists.len() as u32,
                parent,
            });
        }
        let first_pattern = lists.len() as u32;
        lists.extend(patterns);
        Self { text: text.into(), nodes: nodes.into(), lists: lists.into(), patterns: first_pattern }
    }

    /// Memory that it holds.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.nodes) + size_of_val(&*self.lists)
    }

    /// The places of the routes that a path may mean, in the order of the list: all whose path matches, and some whose
    /// path does not (patterns; a text that ends inside a segment).
    pub(super) fn candidates(&self, path: &str) -> Candidates<'_> {
        let mut lists = Lists::new();
        let mut add = |from: u32, to: u32| {
            if from < to {
                lists.push(&self.lists[from as usize..to as usize]);
            }
        };
        add(self.patterns, self.lists.len() as u32);
        let after = self.nodes.partition_point(|node| node.of(&self.text).cmp(path) != Ordering::Greater);
        if let Some(nearest) = after.checked_sub(1).map(|at| &self.nodes[at]) {
            let common = nearest.of(&self.text).bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
            if nearest.len() == path.len() && common == path.len() {
                add(nearest.whole, nearest.beginning);
            }
            let mut next = Some(nearest);
            while let Some(node) = next {
                if node.len() <= common {
                    add(node.beginning, node.lists_end);
                }
                next = self.nodes.get(node.parent as usize);
            }
        }
        Candidates { lists }
    }
}

impl Node {
    fn of<'t>(&self, text: &'t str) -> &'t str {
        &text[self.text as usize..self.text_end as usize]
    }

    fn len(&self) -> usize {
        (self.text_end - self.text) as usize
    }
}

/// Places in ascending order.
pub(super) struct Candidates<'l> {
    lists: Lists<'l>,
}

impl Iterator for Candidates<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let heads = self.lists.iter_mut().filter(|list| !list.is_empty());
        let list = heads.min_by_key(|list| list[0])?;
        let (first, rest) = list.split_first()?;
        *list = rest;
        Some(*first as usize)
    }
}
