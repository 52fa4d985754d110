//! The HTTP/2 client.

use crate::{
    application,
    contestant::{Failure, Target},
    scenario::Scenario,
};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

pub(super) type Sender = http2::SendRequest<Full<Bytes>>;

pub(super) async fn connect(target: &Target) -> Result<Sender, Failure> {
    let tcp = TcpStream::connect(target.address).await?;
    tcp.set_nodelay(true)?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.timer(TokioTimer::new()).handshake(TokioIo::new(tcp)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

pub(super) async fn exchange(sender: &mut Sender, scenario: Scenario, target: &Target) -> Result<(), Failure> {
    let shape = scenario.shape();
    sender.ready().await?;
    let response = sender.send_request(request(scenario, &target.authority)?).await?;
    let status = response.status();
    let mut body = response.into_body();
    let (mut size, mut trailers) = (0, false);
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        size += frame.data_ref().map_or(0, Bytes::len);
        trailers |= frame.is_trailers();
    }
    if !status.is_success() {
        return Err(format!("status {status}").into());
    }
    if size != shape.down || trailers != shape.trailers {
        return Err(format!("an answer of {size} bytes, trailers: {trailers}").into());
    }
    Ok(())
}

fn request(scenario: Scenario, authority: &str) -> Result<Request<Full<Bytes>>, Failure> {
    let shape = scenario.shape();
    let request = Request::builder().uri(format!("http://{authority}{}", shape.path));
    if shape.up == 0 {
        return Ok(request.body(Full::default())?);
    }
    let request = request.method(Method::POST).header("content-type", "application/grpc").header("te", "trailers");
    Ok(request.body(Full::new(application::message()))?)
}
