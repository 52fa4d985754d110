//! Requests arrive, with identity, and say why when they do not.

use crate::{pair, replicas};
use http::{Method, StatusCode};
use std::collections::BTreeSet;
use weir_tests::{
    client::{self, Connection, get, request, send},
    eventually,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_through_both_sidecars_with_identity() {
    let pair = pair("http", "").await;
    let seen = client::text(pair.client.outbound, "server:8080", "/a/b?c=d").await;
    assert!(seen.starts_with("GET /a/b?c=d\n"), "{seen}");
    assert!(seen.contains("host: server:8080\n"), "{seen}");
    assert!(seen.contains("x-forwarded-client-cert: URI=spiffe://weir.local/ns/default/sa/client\n"), "{seen}");
    assert!(seen.contains("traceparent: 00-"), "{seen}");
    assert!(seen.contains("x-request-id: "), "{seen}");
    // By the longer names, in absolute form, and with a body over a kept connection.
    for name in ["server.default:8080", "server.default.svc:8080", "server.default.svc.cluster.local:8080"] {
        client::text(pair.client.outbound, name, "/").await;
    }
    let absolute = request(Method::POST, "server:8080", "http://server:8080/x", "hello");
    let answer = send(pair.client.outbound, absolute).await.unwrap();
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    assert!(text.starts_with("POST /x\n") && text.ends_with("\n\nhello"), "{text}");
    let metrics = pair.server.metrics().await;
    assert!(metrics.contains(r#"source="default/client""#), "the caller is known by its certificate:\n{metrics}");
    assert!(pair.client.log().contains("\"response_code\":200"), "{}", pair.client.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_clearly() {
    let pair = pair("http", "").await;
    let unknown = get(pair.client.outbound, "nobody:8080", "/").await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(unknown.headers()["weir-reason"], "route_not_found");
    assert!(unknown.headers()["proxy-status"].to_str().unwrap().contains("error=destination_not_found"));
    // It appears, and is found without a restart.
    pair.mesh.apply(&weir_tests::mesh::service("nobody", 8080, "http")).await;
    eventually("the new service is known", 10, || async {
        let answer = get(pair.client.outbound, "nobody:8080", "/").await.ok()?;
        (answer.headers().get("weir-reason")? == "no_healthy_endpoint").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_and_http1_reach_the_same_application() {
    let pair = pair("http", "").await;
    let mut connection = Connection::http2(pair.client.outbound).await.unwrap();
    for n in 0..20 {
        let uri = format!("http://server:8080/{n}");
        let request = http::Request::get(uri).body(Default::default()).unwrap();
        let answer = connection.send(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.body().starts_with(format!("GET /{n}\n").as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_instances_are_used() {
    let replicas = replicas("").await;
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        let answer = get(replicas.client.outbound, "server:8080", "/").await.unwrap();
        seen.insert(answer.headers()["x-served-by"].to_str().unwrap().to_owned());
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_split_change_headers_and_redirect() {
    let documents = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: server}
spec:
  parentRefs: [{kind: Service, group: '', name: server}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters:
    - type: URLRewrite
      urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-mesh, value: weir}], remove: [x-secret]}
    backendRefs: [{name: server, port: 8080}]
  - matches: [{path: {type: Exact, value: /gone}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /here}, statusCode: 301}
  - matches: [{headers: [{name: x-canary, value: 'yes'}], method: POST}]
    filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {add: [{name: x-route, value: canary}]}
    backendRefs: [{name: server, port: 8080}]
";
    let pair = pair("http", documents).await;
    let outbound = pair.client.outbound;
    let mut old = request(Method::GET, "server:8080", "/old/x?y=1", "");
    old.headers_mut().insert("x-secret", "s".parse().unwrap());
    let text = String::from_utf8_lossy(send(outbound, old).await.unwrap().body()).into_owned();
    assert!(text.starts_with("GET /new/x?y=1\n"), "{text}");
    assert!(text.contains("x-mesh: weir\n") && !text.contains("x-secret"), "{text}");
    let moved = get(outbound, "server:8080", "/gone").await.unwrap();
    assert_eq!(
        (moved.status(), &moved.headers()["location"]),
        (StatusCode::MOVED_PERMANENTLY, &"http://server:8080/here".parse().unwrap())
    );
    let mut canary = request(Method::POST, "server:8080", "/", "");
    canary.headers_mut().insert("x-canary", "yes".parse().unwrap());
    assert_eq!(send(outbound, canary).await.unwrap().headers()["x-route"], "canary");
    let nothing = get(outbound, "server:8080", "/else").await.unwrap();
    assert_eq!(
        (nothing.status(), &nothing.headers()["weir-reason"]),
        (StatusCode::NOT_FOUND, &"route_not_found".parse().unwrap())
    );
}
