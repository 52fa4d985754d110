//! The index against looking at one route after the other.

use super::*;
use proptest::prelude::*;
use weir_config::model::{PathMatch, SafeRegex};

/// Short texts of few letters, so that many begin with others.
fn text() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["/", "a", "b", "/a", "/a/b", "é", "aa"]);
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn path() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("/{text}"))
}

fn path_match() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        3 => path().prop_map(PathMatch::Exact),
        3 => prop_oneof![text(), path()].prop_map(PathMatch::Prefix),
        3 => path().prop_map(|text| match text.trim_end_matches('/') {
            "" => PathMatch::Prefix("/".into()),
            text => PathMatch::Segments(text.into()),
        }),
        1 => prop::sample::select(vec!["/a.*", ".*b", "/[^/]*/a", "/"])
            .prop_map(|pattern| PathMatch::Regex(SafeRegex::new(pattern).unwrap())),
    ]
}

fn rule() -> impl Strategy<Value = RouteMatch> {
    (
        path_match(),
        prop::option::weighted(0.3, any::<bool>()),
        prop::option::weighted(0.3, any::<bool>()),
        any::<bool>(),
    )
        .prop_map(|(path, post, header, grpc)| RouteMatch {
            path,
            method: post.map(|post| if post { http::Method::POST } else { http::Method::GET }),
            headers: header.into_iter().map(wants_header).collect(),
            query: vec![],
            grpc: grpc && post.is_some(),
        })
}

fn wants_header(there: bool) -> HeaderMatch {
    let name = http::HeaderName::from_static("x-it");
    HeaderMatch { name, predicate: HeaderPredicate::Present(there), invert: false }
}

fn route(matches: RouteMatch) -> Arc<Route> {
    Arc::new(Route {
        name: "".into(),
        matches,
        action: RouteAction::Respond(http::StatusCode::OK, bytes::Bytes::new()),
        request_headers: HeaderMutations::default(),
        response_headers: HeaderMutations::default(),
        fault: None,
    })
}

fn request(path: &str, post: bool, header: bool) -> Parts {
    let mut request = http::Request::builder().method(if post { "POST" } else { "GET" }).uri(path);
    if header {
        request = request.header("x-it", "1");
    }
    request.body(()).unwrap().into_parts().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_index_finds_the_first_that_matches(
        rules in prop::collection::vec(rule(), 0..60),
        requests in prop::collection::vec((path(), any::<bool>(), any::<bool>(), any::<bool>()), 1..30),
    ) {
        let list: Vec<_> = rules.into_iter().map(route).collect();
        let index = Index::new(list.iter().map(|r| &r.matches.path));
        let (indexed, plain) = (Routes { list: list.clone(), index: Some(index) }, Routes { list, index: None });
        for (path, post, header, grpc) in requests {
            let parts = request(&path, post, header);
            let place = |routes: &Routes| {
                let found = routes.find(&parts, grpc)?;
                routes.list.iter().position(|r| Arc::ptr_eq(r, found))
            };
            prop_assert_eq!(place(&indexed), place(&plain), "{} in {:?}", path, &plain.list.iter().map(|r| &r.matches).collect::<Vec<_>>());
        }
    }
}

/// The candidates for a path are what it may mean, not the list.
#[test]
fn few_of_many_are_looked_at() {
    let all = (0..1000).map(|n| PathMatch::Segments(format!("/elsewhere/{n}"))).chain([PathMatch::Prefix("/".into())]);
    let all: Vec<_> = all.collect();
    let index = Index::new(all.iter());
    assert_eq!(index.candidates("/small").collect::<Vec<_>>(), [1000]);
    assert_eq!(index.candidates("/elsewhere/123/x").collect::<Vec<_>>(), [1, 12, 123, 1000]);
    assert!(index.bytes() < 64 * 1024, "{} bytes", index.bytes());
}
