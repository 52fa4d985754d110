//! Header changes ⇄ Envoy's `request_headers_to_add`, `request_headers_to_remove` and their response siblings.
//!
//! Envoy removes first and then adds, in the order of the list. `%` begins a command in Envoy's values: it is doubled on
//! the way out; commands are refused on the way in.
#![allow(deprecated, reason = "Envoy's deprecated fields are named so that none is overlooked")]

use super::{
    limits,
    wire::{At, Report, pb},
};
use crate::model::{HeaderMutation, HeaderMutations};
use http::{HeaderName, HeaderValue};
use pb::core::header_value_option::HeaderAppendAction as Append;

/// What is added and what is removed.
pub(super) fn mutations(m: &HeaderMutations) -> (Vec<pb::core::HeaderValueOption>, Vec<String>) {
    let mut add = vec![];
    let mut remove = vec![];
    for change in &m.mutations {
        match change {
            HeaderMutation::Set(n, v) => add.push(option(n, v, Append::OverwriteIfExistsOrAdd)),
            HeaderMutation::Add(n, v) => add.push(option(n, v, Append::AppendIfExistsOrAdd)),
            HeaderMutation::Remove(n) => remove.push(n.as_str().to_owned()),
        }
    }
    (add, remove)
}

fn option(name: &HeaderName, value: &HeaderValue, action: Append) -> pb::core::HeaderValueOption {
    let value = String::from_utf8_lossy(value.as_bytes()).replace('%', "%%");
    pb::core::HeaderValueOption {
        // Envoy drops an empty value unless told.
        keep_empty_value: value.is_empty(),
        header: Some(pb::core::HeaderValue { key: name.as_str().to_owned(), value, raw_value: vec![] }),
        append: None,
        append_action: action.into(),
    }
}

/// Reads changes; `which` is `request` or `response`, as in the names of the fields.
pub(super) fn read(
    out: &mut Report,
    at: &At<'_>,
    (add_field, add): (&str, Vec<pb::core::HeaderValueOption>),
    (remove_field, remove): (&str, Vec<String>),
) -> HeaderMutations {
    if !out.within(at, add_field, &add, limits::MUTATIONS) || !out.within(at, remove_field, &remove, limits::MUTATIONS)
    {
        return HeaderMutations::default();
    }
    let mut mutations = vec![];
    for (i, name) in remove.into_iter().enumerate() {
        mutations.extend(read_name(out, &at.item(remove_field, i), &name).map(HeaderMutation::Remove));
    }
    for (i, option) in add.into_iter().enumerate() {
        mutations.extend(read_option(out, &at.item(add_field, i), option));
    }
    HeaderMutations { mutations }
}

fn read_option(out: &mut Report, at: &At<'_>, sent: pb::core::HeaderValueOption) -> Option<HeaderMutation> {
    let pb::core::HeaderValueOption { header, append, append_action, keep_empty_value } = sent;
    let Some(header) = header else {
        out.refuse(at, "has no header");
        return None;
    };
    let pb::core::HeaderValue { key, value, raw_value } = header;
    let name = read_name(out, &at.field("header.key"), &key)?;
    let text = if raw_value.is_empty() { plain(out, at, &value)? } else { String::from_utf8(raw_value).ok()? };
    if text.is_empty() && !keep_empty_value {
        out.refuse(&at.field("header.value"), "is empty, and `keep_empty_value` is not set");
        return None;
    }
    let Ok(value) = HeaderValue::from_str(&text) else {
        out.refuse(&at.field("header.value"), "is not a header's value");
        return None;
    };
    match (append, Append::try_from(append_action)) {
        (Some(old), _) if old.value => Some(HeaderMutation::Add(name, value)),
        (Some(_), _) | (None, Ok(Append::OverwriteIfExistsOrAdd)) => Some(HeaderMutation::Set(name, value)),
        (None, Ok(Append::AppendIfExistsOrAdd)) => Some(HeaderMutation::Add(name, value)),
        (None, Ok(Append::AddIfAbsent | Append::OverwriteIfExists) | Err(_)) => {
            out.refuse(&at.field("append_action"), "is not supported");
            None
        }
    }
}

fn read_name(out: &mut Report, at: &At<'_>, name: &str) -> Option<HeaderName> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) if HeaderMutations::may_change(&name) => return Some(name),
        Ok(_) => out.refuse(at, "frames or routes a message and cannot be changed"),
        Err(_) => out.refuse(at, "is not the name of a header"),
    }
    None
}

/// A value without commands, `%%` made `%` again.
fn plain(out: &mut Report, at: &At<'_>, value: &str) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        text.push(c);
        if c == '%' && chars.next() != Some('%') {
            out.refuse(&at.field("header.value"), "has a `%` command, which is not supported");
            return None;
        }
    }
    if text.len() > limits::TEXT_BYTES {
        out.refuse(&at.field("header.value"), format!("is longer than {} bytes", limits::TEXT_BYTES));
        return None;
    }
    Some(text)
}
