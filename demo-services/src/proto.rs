//! The messages of the two gRPC services, written by hand (the same bytes as a `.proto` file would give), and what a
//! server needs to answer a call with one message each way.

use axum::body::Body;
use http::{Request, Response};
use tonic::Status;

/// `weir.demo.Profiles/Get`: [`ProfileRequest`] → [`Profile`].
pub const PROFILES_GET: &str = "/weir.demo.Profiles/Get";
/// `weir.demo.Recommendations/List`: [`RecommendationsRequest`] → [`Recommendations`].
pub const RECOMMENDATIONS_LIST: &str = "/weir.demo.Recommendations/List";

/// Who?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProfileRequest {
    /// The viewer.
    #[prost(string, tag = "1")]
    pub user: String,
}

/// A viewer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Profile {
    /// The viewer.
    #[prost(string, tag = "1")]
    pub user: String,
    /// How to greet them.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Genres they like.
    #[prost(string, repeated, tag = "3")]
    pub tastes: Vec<String>,
}

/// For whom, and how many?
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RecommendationsRequest {
    /// The viewer.
    #[prost(string, tag = "1")]
    pub user: String,
    /// Genres they like; none: unknown.
    #[prost(string, repeated, tag = "2")]
    pub tastes: Vec<String>,
    /// At most this many.
    #[prost(uint32, tag = "3")]
    pub limit: u32,
}

/// Titles, best first.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Recommendations {
    /// Identifiers as the catalogue has them.
    #[prost(string, repeated, tag = "1")]
    pub titles: Vec<String>,
}

/// Answers one call by `handle`.
pub async fn unary<Q, A, F, T>(request: Request<Body>, handle: F) -> Response<tonic::body::Body>
where
    Q: prost::Message + Default + Send + Sync + 'static,
    A: prost::Message + Send + Sync + 'static,
    F: Fn(Q) -> T + Send + Sync,
    T: Future<Output = Result<A, Status>> + Send,
{
    let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::<A, Q>::default());
    let service = tower::service_fn(|request: tonic::Request<Q>| {
        let answer = handle(request.into_inner());
        async move { answer.await.map(tonic::Response::new) }
    });
    grpc.unary(service, request).await
}
