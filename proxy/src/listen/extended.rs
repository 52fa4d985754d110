//! Extended CONNECT (RFC 8441): a WebSocket, or whatever else `:protocol` says, on one stream of an HTTP/2 connection. Towards
//! the application it becomes what applications know: an HTTP/1.1 request with `Upgrade`.

use crate::{error::Kind, reply, stage::Response};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Version, header};

static KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
static ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;

/// RFC 6455 §1.3
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request that asked for another protocol on its stream.
pub(super) struct Extended {
    /// What the application has to answer to show that it speaks WebSocket; other protocols have their own ways.
    accept: Option<HeaderValue>,
}

/// Makes an upgrade of an extended CONNECT; `None`: it is none.
pub(super) fn translate<B>(request: &mut Request<B>) -> Option<Extended> {
    if *request.method() != Method::CONNECT {
        return None;
    }
    let protocol = request.extensions_mut().remove::<h2::ext::Protocol>()?;
    let protocol = HeaderValue::from_str(protocol.as_str()).ok()?;
    let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    let host = request.uri().authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok());
    let headers = request.headers_mut();
    if let Some(host) = host {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::UPGRADE, protocol);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if !websocket {
        return Some(Extended { accept: None });
    }
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), MAGIC].concat()));
    headers.insert(KEY.clone(), HeaderValue::try_from(key).ok()?);
    Some(Extended { accept: Some(HeaderValue::try_from(accept).ok()?) })
}

impl Extended {
    /// The answer as HTTP/2 has it: 200 where HTTP/1.1 switches protocols.
    pub(super) fn answer(self, mut response: Response) -> Response {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // A 200 would say that the stream is open now.
            let success = response.status().is_success();
            let why = "the destination answered without a change of protocol";
            return if success { reply::error(&Kind::UpgradeFailed.detail(why), false) } else { response };
        }
        let accepted = response.headers_mut().remove(&ACCEPT);
        if self.accept.is_some() && accepted.is_some() && accepted != self.accept {
            return reply::error(&Kind::UpgradeFailed.detail("an answer to another WebSocket key"), false);
        }
        response.headers_mut().remove(header::UPGRADE);
        response.headers_mut().remove(header::CONNECTION);
        *response.status_mut() = StatusCode::OK;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocol: &'static str) -> (Request<()>, Extended) {
        let mut request = Request::builder().method("CONNECT").uri("http://a:80/chat").version(Version::HTTP_2);
        request.extensions_mut().unwrap().insert(h2::ext::Protocol::from_static(protocol));
        let mut request = request.body(()).unwrap();
        let extended = translate(&mut request).unwrap();
        (request, extended)
    }

    fn switching(accept: Option<&HeaderValue>) -> Response {
        let mut response = reply::status(StatusCode::SWITCHING_PROTOCOLS);
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        accept.map(|a| response.headers_mut().insert(ACCEPT.clone(), a.clone()));
        response
    }

    #[test]
    fn a_websocket_is_asked_for_as_http_1_does_and_answered_as_http_2_does() {
        let (request, extended) = asked("websocket");
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_11));
        let headers = request.headers();
        for (name, value) in [("host", "a:80"), ("upgrade", "websocket"), ("connection", "upgrade")] {
            assert_eq!(headers[name], value);
        }
        assert_eq!(STANDARD.decode(&headers[&KEY]).unwrap().len(), 16);
        let accept = extended.accept.clone();
        let answer = extended.answer(switching(accept.as_ref()));
        assert_eq!((answer.status(), answer.headers().len()), (StatusCode::OK, 0));
    }

    #[test]
    fn an_application_that_does_not_know_the_key_is_not_believed() {
        let (_, extended) = asked("websocket");
        let other = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(extended.answer(switching(Some(&other))).status(), StatusCode::BAD_GATEWAY);
        let (_, unchanged) = asked("websocket");
        assert_eq!(unchanged.answer(reply::status(StatusCode::OK)).status(), StatusCode::BAD_GATEWAY);
        let (_, other) = asked("connect-udp");
        assert_eq!(other.answer(switching(None)).status(), StatusCode::OK);
        let (_, declined) = asked("websocket");
        assert_eq!(declined.answer(reply::status(StatusCode::FORBIDDEN)).status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn other_requests_are_left_alone() {
        let mut plain = Request::builder().method("CONNECT").uri("a:80").body(()).unwrap();
        assert!(translate(&mut plain).is_none() && plain.method() == Method::CONNECT);
    }
}
