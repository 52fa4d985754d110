//! `OPTIONS *`: a question to the whole server (RFC 9110 §9.3.7).

use crate::{path, request};
use weir_tests::upstream::Upstream;

#[tokio::test(flavor = "multi_thread")]
async fn options_of_the_whole_server_stays_a_star() {
    let path = path(Upstream::ok().await).await;
    assert_eq!(path.connect().await.ask("OPTIONS", request("OPTIONS *", &[])).await.status(), 200);
    assert_eq!(path.upstream.one().line(), "OPTIONS * HTTP/1.1");
}
