//! What a route changes: path, `Host`, request and response headers.

use crate::{
    error::{Error, Kind},
    request::{
        Request, Routed,
        rewrite::{mutate, new_path},
    },
    stage::{Response, Stage},
    state::{Route, RouteAction},
};
use http::{HeaderValue, Uri, header, uri::PathAndQuery};
use weir_config::model::{HostRewrite, PathRewrite};

/// Applies a route's changes.
pub struct Headers<N>(pub N);

impl<N: Stage<Box<Routed>, Failure = Error>> Stage<Box<Routed>> for Headers<N> {
    type Failure = Error;

    async fn call(&self, mut routed: Box<Routed>) -> Result<Response, Error> {
        let (route, target) = (routed.route.clone(), routed.target.clone());
        mutate(&mut routed.request.parts.headers, &route.request_headers);
        mutate(&mut routed.request.parts.headers, &target.request_headers);
        if let RouteAction::Forward(forward) = &route.action {
            if let Some(rewrite) = &forward.path {
                rewrite_path(&mut routed.request, &route, rewrite)?;
            }
            if let Some(HostRewrite::Literal(host)) = &forward.host {
                rewrite_host(&mut routed.request, host)?;
            }
        }
        let mut response = self.0.call(routed).await?;
        mutate(response.headers_mut(), &target.response_headers);
        mutate(response.headers_mut(), &route.response_headers);
        Ok(response)
    }
}

fn rewrite_path(request: &mut Request, route: &Route, rewrite: &PathRewrite) -> Result<(), Error> {
    let path = new_path(request.parts.uri.path(), &route.matches.path, rewrite);
    let text = match request.parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    let path =
        PathAndQuery::try_from(text).map_err(|e| Kind::BadRequest.detail("the path cannot be rewritten").because(e))?;
    let mut uri = std::mem::take(&mut request.parts.uri).into_parts();
    uri.path_and_query = Some(path);
    request.parts.uri = Uri::from_parts(uri).map_err(|e| Kind::BadRequest.because(e))?;
    Ok(())
}

fn rewrite_host(request: &mut Request, host: &HeaderValue) -> Result<(), Error> {
    let text = host.to_str().map_err(|e| Kind::Internal.because(e))?;
    request.parts.headers.insert(header::HOST, host.clone());
    request.authority = text.into();
    Ok(())
}
