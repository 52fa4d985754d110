//! `weir get <kind> [name]`: documents as the control plane has them.

use super::{
    Context,
    failure::Failure,
    output::{self, Format, Table},
};
use crate::{api::types::DocumentList, client::Client};
use clap::Args;
use serde_json::Value;
use weir_config::resources::Kind;

/// See the module.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// A kind (`services`, `svc`, `httproute`, …), several with commas, or `all`.
    kind: String,
    /// One document's name.
    name: Option<String>,
    /// Only this namespace; unless told, all, or `default` where a name is given.
    #[arg(short, long, env = "WEIR_NAMESPACE")]
    namespace: Option<String>,
}

impl Get {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), Failure> {
        let client = context.client()?;
        let kinds = kinds(&self.kind)?;
        if let Some(name) = &self.name {
            let [kind] = kinds[..] else {
                return Err(Failure::usage("a name needs one kind", "write `weir get <kind> <name>`"));
            };
            let document: Value = client.get(&path(kind, self.namespace.as_deref(), name)).await?;
            return context.print(&document, |d| table(std::slice::from_ref(d)));
        }
        let mut lists = Vec::with_capacity(kinds.len());
        for kind in kinds {
            lists.push(list(&client, kind, self.namespace.as_deref()).await?);
        }
        if context.common.output == Format::Yaml {
            // As files have it, so that it can be applied again.
            return output::print(context.out, Format::Table, &lists, |lists| documents_yaml(lists));
        }
        let Some(whole) = lists.into_iter().reduce(joined) else { return Ok(()) };
        context.print(&whole, |list| table(&list.items))
    }
}

/// The kinds that a word means.
pub(super) fn kinds(word: &str) -> Result<Vec<Kind>, Failure> {
    if word == "all" {
        return Ok(Kind::ALL.to_vec());
    }
    word.split(',').map(kind).collect()
}

/// The kind that a word means.
pub(super) fn kind(word: &str) -> Result<Kind, Failure> {
    Kind::parse(word.trim()).ok_or_else(|| {
        let known: Vec<_> = Kind::ALL.iter().map(|k| format!("{} ({})", k.plural(), k.short())).collect();
        Failure::usage(format!("there is no kind `{word}`"), format!("there are {}", known.join(", ")))
    })
}

/// The path of one document.
pub(super) fn path(kind: Kind, namespace: Option<&str>, name: &str) -> String {
    let (plural, name) = (kind.plural(), escape(name));
    if kind.namespaced() {
        format!("/api/v1/namespaces/{}/{plural}/{name}", escape(namespace.unwrap_or("default")))
    } else {
        format!("/api/v1/{plural}/{name}")
    }
}

/// What a segment of a path may not have, percent-encoded.
fn escape(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b as char);
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
        out
    })
}

async fn list(client: &Client, kind: Kind, namespace: Option<&str>) -> Result<DocumentList, Failure> {
    match namespace.filter(|_| kind.namespaced()) {
        Some(namespace) => client.get(&format!("/api/v1/namespaces/{}/{}", escape(namespace), kind.plural())).await,
        None => client.get(&format!("/api/v1/{}", kind.plural())).await,
    }
}

fn joined(mut whole: DocumentList, more: DocumentList) -> DocumentList {
    whole.items.extend(more.items);
    whole.metadata = more.metadata;
    whole
}

fn documents_yaml(lists: &[DocumentList]) -> String {
    let documents = lists.iter().flat_map(|l| &l.items).filter_map(|d| serde_saphyr::to_string(d).ok());
    documents.collect::<Vec<_>>().join("---\n")
}

fn table(documents: &[Value]) -> String {
    let mut table = Table::new(&["KIND", "NAMESPACE", "NAME", "VERSION", "AGE"]);
    for document in documents {
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        table.row([
            text("/kind"),
            text("/metadata/namespace"),
            text("/metadata/name"),
            text("/metadata/resourceVersion"),
            output::age(&text("/metadata/creationTimestamp")),
        ]);
    }
    if table.is_empty() { "there are none\n".into() } else { table.to_string() }
}
