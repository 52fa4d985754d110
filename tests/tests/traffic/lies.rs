//! An application that lies: every entry of `lies.txt` reaches the client as what it is beyond doubt, or as an error of the
//! sidecar, and never as part of another answer.

use crate::{
    Path,
    corpus::{Entry, entries},
    path, request,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use weir_tests::{
    message::shown,
    upstream::{Step, Upstream},
};

const MARKER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

/// An application that says `lie` to `/lie`, and the truth to others.
async fn lying(lie: Arc<Mutex<Vec<u8>>>) -> Upstream {
    Upstream::start(move |request| {
        let target = request.word();
        if target == "/lie" {
            return vec![Step::ReadBody, Step::Send(lie.lock().expect("a lie").clone()), Step::Close];
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
        vec![Step::ReadBody, Step::Send(answer.into_bytes())]
    })
    .await
}

/// What the client sees, as the file writes it.
async fn outcome(path: &Path) -> Result<String, String> {
    let mut client = path.connect().await;
    client.send(request("GET /lie", &[])).await;
    let seen = match client.answer("GET").await {
        Ok(answer) if matches!(answer.status(), 502 | 503) => match answer.reason() {
            Some(_) => "bad".to_owned(),
            None => return Err(format!("an error without a reason: {}", answer.last.shown())),
        },
        Ok(answer) => format!("{} {}", answer.status(), answer.last.body.len()),
        Err(wrong) if wrong.starts_with("nothing (more)") || wrong.starts_with("the body is late") => {
            return Err(wrong);
        }
        Err(wrong) => {
            let rest = client.rest(Duration::from_secs(10)).await.ok_or("the connection does not end")?;
            if rest.windows(4).any(|w| w == b"evil") {
                return Err(format!("{wrong}: {}", shown(&rest)));
            }
            return Ok("cut".into());
        }
    };
    // The next request of the same client, where its connection goes on, and other clients get what is theirs.
    client.send(request("GET /mine", &[])).await;
    if let Ok(answer) = client.answer("GET").await
        && answer.last.body != b"/mine"
    {
        return Err(format!("the next request got {}", answer.last.shown()));
    }
    for n in 0..2 {
        let target = format!("/innocent-{n}");
        let answer = path.connect().await.ask("GET", request(&format!("GET {target}"), &[])).await;
        if answer.status() != 200 || answer.last.body != target.as_bytes() {
            return Err(format!("an innocent client got {}", answer.last.shown()));
        }
    }
    Ok(seen)
}

fn permits(entry: &Entry, seen: &str) -> bool {
    entry.outcomes.iter().flatten().any(|o| match (seen, o.as_str()) {
        ("cut", o) => o.starts_with("cut "),
        (seen, "200 all") => seen.starts_with("200 "),
        (seen, o) => seen == o,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_seen_for_what_it_is() {
    let entries = entries(include_str!("lies.txt"), "", MARKER);
    assert!(entries.len() >= 50, "only {} lies", entries.len());
    let lie = Arc::new(Mutex::new(vec![]));
    let path = path(lying(lie.clone()).await).await;
    let mut failures = vec![];
    for entry in &entries {
        *lie.lock().expect("a lie") = entry.bytes.clone();
        match outcome(&path).await {
            Ok(seen) if permits(entry, &seen) => {}
            Ok(seen) => failures.push(format!("{}: {seen}", entry.name)),
            Err(why) => failures.push(format!("{}: {why}", entry.name)),
        }
    }
    assert!(failures.is_empty(), "{} lies:\n{}", failures.len(), failures.join("\n"));
}
