//! Reads faults on purpose.

use super::{
    node::{Node, Tree},
    read::Reader,
};
use crate::model::{Abort, Delay, Fault, Fraction, GrpcCode};
use std::time::Duration;

const GRPC: [(&str, u8); 16] = [
    ("CANCELLED", 1),
    ("UNKNOWN", 2),
    ("INVALID_ARGUMENT", 3),
    ("DEADLINE_EXCEEDED", 4),
    ("NOT_FOUND", 5),
    ("ALREADY_EXISTS", 6),
    ("PERMISSION_DENIED", 7),
    ("RESOURCE_EXHAUSTED", 8),
    ("FAILED_PRECONDITION", 9),
    ("ABORTED", 10),
    ("OUT_OF_RANGE", 11),
    ("UNIMPLEMENTED", 12),
    ("INTERNAL", 13),
    ("UNAVAILABLE", 14),
    ("DATA_LOSS", 15),
    ("UNAUTHENTICATED", 16),
];

pub(super) fn fault(r: &mut Reader, node: &Node) -> Option<Fault> {
    let mut f = r.fields(node)?;
    let fault = Fault { delay: f.optional(r, "delay", delay), abort: f.optional(r, "abort", abort) };
    if f.find("delay").is_none() && f.find("abort").is_none() {
        r.issue(node, "a fault is a delay, an abort, or both", Some("add `delay:` or `abort:`".into()));
    }
    f.close(r);
    Some(fault)
}

fn delay(r: &mut Reader, node: &Node) -> Option<Delay> {
    let (min, max) = (Duration::from_millis(1), Duration::from_secs(3600));
    let mut f = r.fields(node)?;
    let fixed = f.required(r, "fixed", |r, n| r.duration_in(n, min, max));
    let share = f.optional(r, "percent", Reader::share).unwrap_or(Fraction::ALL);
    f.close(r);
    Some(Delay { fixed: fixed?, share })
}

fn abort(r: &mut Reader, node: &Node) -> Option<Abort> {
    let mut f = r.fields(node)?;
    let status = f.optional(r, "httpStatus", |r, n| r.whole(n, 200, 599).and_then(|n| u16::try_from(n).ok()));
    let grpc_status = f.optional(r, "grpcStatus", |r, n| match n.tree {
        Tree::Text(_) => r.word(n, &GRPC),
        _ => r.small(n, 1, 16).and_then(|n| u8::try_from(n).ok()),
    });
    let share = f.optional(r, "percent", Reader::share).unwrap_or(Fraction::ALL);
    if f.find("httpStatus").is_none() && f.find("grpcStatus").is_none() {
        r.issue(node, "an abort needs a status", Some("add `httpStatus: 503`, or `grpcStatus: UNAVAILABLE`".into()));
    }
    f.close(r);
    let status = status.or_else(|| grpc_status.and_then(GrpcCode::new).map(GrpcCode::http_status))?;
    Some(Abort { status, grpc_status, share })
}
