//! Headers that tie this hop to the others: `traceparent` (W3C Trace Context) and `x-request-id`, made where they are
//! missing; and on the inbound side who the caller is (`x-forwarded-client-cert`), which nobody outside may claim.

use crate::{
    error::Error,
    request::Request,
    stage::{Response, Stage},
    telemetry::{
        Direction,
        trace::{TraceContext, request_id},
    },
};
use http::HeaderName;

/// Ties hops together.
pub struct Trace<N>(pub N);

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

impl<N: Stage<Box<Request>, Failure = Error>> Stage<Box<Request>> for Trace<N> {
    type Failure = Error;

    async fn call(&self, mut request: Box<Request>) -> Result<Response, Error> {
        let fields = request.fields;
        let headers = &mut request.parts.headers;
        if request.connection.direction == Direction::Inbound {
            match &request.connection.client_cert {
                Some(who) => headers.insert(CLIENT_CERT.clone(), who.clone()),
                None => headers.remove(&CLIENT_CERT),
            };
        }
        let theirs = fields.traceparent.then(|| headers.get(&TRACEPARENT)).flatten();
        let context = match theirs.and_then(|v| TraceContext::parse(v.as_bytes())) {
            Some(caller) => caller.child(rand::random()),
            None => TraceContext::new(rand::random(), rand::random(), false),
        };
        headers.insert(TRACEPARENT.clone(), context.header());
        if !fields.request_id {
            headers.insert(X_REQUEST_ID.clone(), request_id(rand::random()));
        } else if let Some(theirs) = headers.get_mut(&X_REQUEST_ID) {
            theirs.set_sensitive(true);
        }
        request.record.with(|facts| {
            if facts.in_words {
                facts.told.request_id = headers.get(&X_REQUEST_ID).and_then(|v| v.to_str().ok()).map(Into::into);
                facts.told.trace_id = Some(context.trace_id().into());
                facts.told.span_id = Some(context.span_id().into());
            }
        });
        self.0.call(request).await
    }
}
