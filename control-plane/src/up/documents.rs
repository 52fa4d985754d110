//! The folder's documents become what the control plane has of this mesh: put, and, where the store is kept from one run
//! to the next, what was in the folder before and is not any more is deleted.

use super::Error;
use crate::{
    api::{
        MAX_BODY,
        types::{Applied, DocumentList},
    },
    client::{Body, Client},
    failure::Failure,
    folder::MANAGED_BY,
};
use http::Method;
use serde_json::Value;
use std::collections::BTreeSet;
use weir_config::resources::{Document, Key, Kind};

/// The value of [`MANAGED_BY`] on documents of a mesh that was started here.
const UP: &str = "up";
/// Some room below the API's limit.
const PIECE: usize = MAX_BODY - 64 * 1024;

/// Puts all documents: in one change, or, if they are too large for one, what is referred to before what refers to it.
pub(super) async fn apply(client: &Client, documents: &[Document]) -> Result<(), Error> {
    let mut sorted: Vec<&Document> = documents.iter().collect();
    sorted.sort_by_key(|d| d.kind());
    let mut piece = String::new();
    for document in sorted {
        let mut document = document.clone();
        document.metadata_mut().annotations.insert(MANAGED_BY.into(), UP.into());
        let text = document.to_json().to_string();
        if !piece.is_empty() && piece.len() + text.len() > PIECE {
            put(client, std::mem::take(&mut piece)).await?;
        }
        piece.push(if piece.is_empty() { '[' } else { ',' });
        piece.push_str(&text);
    }
    if piece.is_empty() { Ok(()) } else { put(client, piece).await }
}

async fn put(client: &Client, mut piece: String) -> Result<(), Error> {
    piece.push(']');
    let body = Body { media_type: "application/json", bytes: piece.into() };
    client.send::<Applied>(Method::POST, "/api/v1/apply", &[], Some(body)).await.map(drop)
}

/// Deletes what a former run put and this one does not have.
pub(super) async fn prune(client: &Client, documents: &[Document]) -> Result<(), Error> {
    let kept: BTreeSet<Key> = documents.iter().map(Document::key).collect();
    // What refers to others goes first.
    for kind in Kind::ALL.into_iter().rev() {
        let list: DocumentList = client.get(&format!("/api/v1/{}", kind.plural())).await?;
        for key in list.items.iter().filter(|d| managed(d)).map(|d| key(kind, d)).filter(|k| !kept.contains(k)) {
            let (namespace, name, plural) = (&key.namespace, &key.name, kind.plural());
            let path = if kind.namespaced() {
                format!("/api/v1/namespaces/{namespace}/{plural}/{name}")
            } else {
                format!("/api/v1/{plural}/{name}")
            };
            let deleted = client.send::<Applied>(Method::DELETE, &path, &[], None).await;
            deleted.map(drop).or_else(|e: Failure| if e.is_not_found() { Ok(()) } else { Err(e) })?;
        }
    }
    Ok(())
}

fn managed(document: &Value) -> bool {
    document.pointer("/metadata/annotations").and_then(|a| a.get(MANAGED_BY)).is_some_and(|v| v == UP)
}

fn key(kind: Kind, document: &Value) -> Key {
    let text = |field: &str| document.pointer(field).and_then(Value::as_str).unwrap_or_default();
    Key::new(kind, text("/metadata/namespace"), text("/metadata/name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{App, Options};
    use weir_config::resources::parse;

    fn services(names: &[&str]) -> Vec<Document> {
        let one = |name: &&str| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: a}}, ports: [{{port: 1}}]}}\n"
            )
        };
        parse("x", &names.iter().map(one).collect::<Vec<_>>().join("---\n")).unwrap()
    }

    #[tokio::test]
    async fn what_left_the_folder_leaves_the_store_and_nothing_else_does() {
        let running = App::start(Options::ephemeral()).await.unwrap();
        let client = Client::new(&running.addresses().api.to_string(), None).unwrap();
        let by_hand = services(&["by-hand"]);
        running.store().apply(&crate::store::Batch::put_all(by_hand)).unwrap();
        apply(&client, &services(&["a", "b"])).await.unwrap();
        let now = services(&["b", "c"]);
        apply(&client, &now).await.unwrap();
        prune(&client, &now).await.unwrap();
        let names: Vec<_> = running.store().snapshot().iter().map(|(k, _)| k.name.to_string()).collect();
        assert_eq!(names, ["b", "by-hand", "c"]);
        running.shutdown().await;
    }

    #[tokio::test]
    async fn more_than_one_body_holds_goes_in_pieces() {
        let running = App::start(Options::ephemeral()).await.unwrap();
        let client = Client::new(&running.addresses().api.to_string(), None).unwrap();
        let mut documents = services(&["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]);
        for document in &mut documents {
            document.metadata_mut().annotations.insert("note".into(), "x".repeat(700_000));
        }
        apply(&client, &documents).await.unwrap();
        assert_eq!(running.store().snapshot().len(), 10);
        running.shutdown().await;
    }
}
