//! The responses that the proxy makes itself: each says why, in `weir-reason` and `Proxy-Status` (RFC 9209).

use crate::{body::ResponseBody, error::Error, stage::Response};
use http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_TYPE};

/// The reason token of a response that the proxy made.
pub static WEIR_REASON: HeaderName = HeaderName::from_static("weir-reason");
static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The response that an error becomes. A gRPC request gets a trailers-only response (gRPC over HTTP/2, "Responses").
pub fn error(error: &Error, grpc: bool) -> Response {
    let kind = error.kind();
    let mut response = if grpc {
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS.clone(), HeaderValue::from(u16::from(error.grpc_code().number())));
        headers.insert(GRPC_MESSAGE.clone(), kind.reason_header());
        response
    } else {
        let mut response = Response::new(ResponseBody::full(kind.reason()));
        *response.status_mut() = error.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    };
    response.headers_mut().insert(WEIR_REASON.clone(), kind.reason_header());
    response.headers_mut().insert(PROXY_STATUS.clone(), kind.proxy_status_header());
    response
}

/// An empty response.
pub fn status(status: StatusCode) -> Response {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = status;
    response
}
