//! Certificate signing on the wire: Istio's `CreateCertificate` API, so that our sidecars can be signed for by istiod or
//! cert-manager's istio-csr, and istio-agent or ztunnel by us.
//!
//! Written by hand in the shape that tonic generates: the service has one unary method and two messages.

use envoy_types::pb::google::protobuf::Struct;
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::codegen::{Body, BoxFuture, Bytes, Service, StdError, async_trait, http};
use tonic_prost::ProstCodec;

const SERVICE: &str = "istio.v1.auth.IstioCertificateService";
const CREATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// A request to sign. The authority derives the identity from who asks, never from the CSR.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// PEM `CERTIFICATE REQUEST`.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// The wished life in seconds; the authority may shorten it.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// Free.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<Struct>,
}

/// The signed certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateResponse {
    /// PEM certificates, the leaf first, the root last.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

/// What a certificate authority does.
#[async_trait]
pub trait IstioCertificateService: Send + Sync + 'static {
    /// Signs, or says why not.
    async fn create_certificate(
        &self,
        request: tonic::Request<IstioCertificateRequest>,
    ) -> Result<tonic::Response<IstioCertificateResponse>, tonic::Status>;
}

/// Asks a certificate authority.
#[derive(Debug, Clone)]
pub struct IstioCertificateServiceClient<T> {
    inner: tonic::client::Grpc<T>,
}

impl<T> IstioCertificateServiceClient<T>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    /// Over a channel.
    pub fn new(inner: T) -> Self {
        // A certificate chain is some kilobytes.
        Self { inner: tonic::client::Grpc::new(inner).max_decoding_message_size(256 * 1024) }
    }

    /// Sends a CSR and awaits the chain.
    pub async fn create_certificate(
        &mut self,
        request: impl tonic::IntoRequest<IstioCertificateRequest>,
    ) -> Result<tonic::Response<IstioCertificateResponse>, tonic::Status> {
        let not_ready = |e: T::Error| tonic::Status::unavailable(format!("the service is not ready: {}", e.into()));
        self.inner.ready().await.map_err(not_ready)?;
        let codec = ProstCodec::<IstioCertificateRequest, IstioCertificateResponse>::default();
        let path = http::uri::PathAndQuery::from_static(CREATE);
        self.inner.unary(request.into_request(), path, codec).await
    }
}

/// Serves a certificate authority; add it to a tonic server or router.
#[derive(Debug)]
pub struct IstioCertificateServiceServer<T> {
    inner: Arc<T>,
}

impl<T> IstioCertificateServiceServer<T> {
    /// Around an authority.
    pub fn new(inner: T) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Around a shared authority.
    pub fn from_arc(inner: Arc<T>) -> Self {
        Self { inner }
    }
}

impl<T> Clone for IstioCertificateServiceServer<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> tonic::server::NamedService for IstioCertificateServiceServer<T> {
    const NAME: &'static str = SERVICE;
}

impl<T, B> Service<http::Request<B>> for IstioCertificateServiceServer<T>
where
    T: IstioCertificateService,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != CREATE {
            return Box::pin(async {
                Ok(tonic::Status::unimplemented("no such method").into_http::<tonic::body::Body>())
            });
        }
        let method = Create(Arc::clone(&self.inner));
        Box::pin(async move {
            // A CSR is some kilobytes; who asks may be a stranger.
            let mut grpc =
                tonic::server::Grpc::new(ProstCodec::default()).apply_max_message_size_config(Some(64 * 1024), None);
            Ok(grpc.unary(method, request).await)
        })
    }
}

struct Create<T>(Arc<T>);

impl<T: IstioCertificateService> tonic::server::UnaryService<IstioCertificateRequest> for Create<T> {
    type Response = IstioCertificateResponse;
    type Future = BoxFuture<tonic::Response<Self::Response>, tonic::Status>;

    fn call(&mut self, request: tonic::Request<IstioCertificateRequest>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.create_certificate(request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Signer;

    #[async_trait]
    impl IstioCertificateService for Signer {
        async fn create_certificate(
            &self,
            request: tonic::Request<IstioCertificateRequest>,
        ) -> Result<tonic::Response<IstioCertificateResponse>, tonic::Status> {
            if !request.metadata().contains_key("authorization") {
                return Err(tonic::Status::unauthenticated("who are you?"));
            }
            let request = request.into_inner();
            let cert_chain = vec![request.csr, request.validity_duration.to_string()];
            Ok(tonic::Response::new(IstioCertificateResponse { cert_chain }))
        }
    }

    fn request(csr: &str) -> tonic::Request<IstioCertificateRequest> {
        tonic::Request::new(IstioCertificateRequest { csr: csr.into(), validity_duration: 60, metadata: None })
    }

    #[tokio::test]
    async fn client_and_server_speak_to_each_other() {
        let mut client = IstioCertificateServiceClient::new(IstioCertificateServiceServer::new(Signer));
        let refused = client.create_certificate(request("a")).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        let mut asked = request("a");
        asked.metadata_mut().insert("authorization", "Bearer x".parse().unwrap());
        let signed = client.create_certificate(asked).await.unwrap().into_inner();
        assert_eq!(signed.cert_chain, ["a", "60"]);
    }

    #[tokio::test]
    async fn a_huge_request_of_a_stranger_is_refused_unread() {
        let mut client = IstioCertificateServiceClient::new(IstioCertificateServiceServer::new(Signer));
        let refused = client.create_certificate(request(&"a".repeat(100_000))).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::OutOfRange);
    }
}
