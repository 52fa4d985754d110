//! One entry of the key-value space, followed: every replica hears when another one has changed it.

use super::{
    Shared,
    client::Client,
    wire::{self, WatchCreateRequest, WatchRequest, WatchResponse},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;

/// Between two watches: it is one key, and cheap to begin with.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a watch may take to begin.
const BEGIN: Duration = Duration::from_secs(3);

/// Tells of each change of a key, as long as somebody listens.
pub(super) async fn follow(shared: Arc<Shared>, key: Vec<u8>, told: watch::Sender<u64>) {
    let client = shared.client.another();
    loop {
        tokio::select! {
            why = watch(&client, &key, &told) => tracing::debug!(%why, "an entry in etcd is not followed"),
            () = told.closed() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN.mul_f64(0.5 + rand::random::<f64>())) => client.leave(),
            () = told.closed() => return,
        }
    }
}

/// One watch; why it has ended.
async fn watch(client: &Client, key: &[u8], told: &watch::Sender<u64>) -> String {
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let create = WatchCreateRequest { key: key.to_vec(), ..WatchCreateRequest::default() };
    // There is room for one: this does not wait.
    let _ = sender.send(WatchRequest { create: Some(create) }).await;
    let mut answers = match client.stream::<_, WatchResponse>(wire::WATCH, ReceiverStream::new(requests)).await {
        Ok(answers) => answers,
        Err(status) => return status.message().to_owned(),
    };
    let mut begun = false;
    loop {
        let next = match begun {
            true => answers.message().await,
            false => match tokio::time::timeout(BEGIN, answers.message()).await {
                Ok(next) => next,
                Err(_) => return format!("the watch did not begin within {BEGIN:?}"),
            },
        };
        match next {
            Ok(Some(answer)) if answer.canceled => return answer.cancel_reason,
            // The first one, too: something may have changed before the watch began.
            Ok(Some(_)) => told.send_modify(|n| *n += 1),
            Ok(None) => return "etcd ended the watch".into(),
            Err(status) => return status.message().to_owned(),
        }
        begun = true;
    }
}
