//! `billing`: charges, over HTTP, each with an `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header): the same key twice is answered twice and charged once. What was charged
//! is in a journal and survives a kill.

use crate::app::{Context, Parts, StartError};
use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::Path,
    sync::Arc,
};

/// Keys that are remembered; beyond, charges are refused rather than made without a memory.
const MOST_KEYS: usize = 1_000_000;
const LONGEST_KEY: usize = 128;

/// What is to be charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// Whom.
    pub user: String,
    /// For what: one subscription is to be charged once, whatever the key.
    pub subscription: String,
    /// How much.
    pub cents: u32,
}

/// What was charged, in sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Charges made.
    pub charges: u64,
    /// Requests that came with a key already charged, and were answered from memory.
    pub replays: u64,
    /// Charges made for a subscription that had been charged before.
    pub double_charges: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    charge: Charge,
}

#[derive(Default)]
struct Book {
    ledger: Ledger,
    by_key: HashMap<String, (u64, Charge)>,
    by_subscription: HashMap<String, u64>,
    journal: Option<File>,
}

impl Book {
    fn open(folder: Option<&Path>) -> io::Result<Self> {
        let mut book = Self::default();
        let Some(folder) = folder else { return Ok(book) };
        std::fs::create_dir_all(folder)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(folder.join("billing.jsonl"))?;
        let mut whole = 0;
        let mut lines = BufReader::new(&file);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            let Ok(entry) = serde_json::from_str::<Entry>(&line) else { break };
            whole += line.len() as u64;
            book.enter(entry.key, entry.charge);
            line.clear();
        }
        // A line cut short by a kill was never answered: it is taken away, so that the next one starts on its own line.
        file.set_len(whole)?;
        book.journal = Some(file);
        Ok(book)
    }

    fn enter(&mut self, key: String, charge: Charge) -> u64 {
        self.ledger.charges += 1;
        let times = self.by_subscription.entry(charge.subscription.clone()).or_default();
        *times += 1;
        if *times > 1 {
            self.ledger.double_charges += 1;
        }
        self.by_key.insert(key, (self.ledger.charges, charge));
        self.ledger.charges
    }

    fn write(&mut self, key: &str, charge: &Charge) -> io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut line = serde_json::to_vec(&Entry { key: key.into(), charge: charge.clone() })?;
        line.push(b'\n');
        journal.write_all(&line)
    }
}

type Shared = Arc<Mutex<Book>>;

pub(super) fn build(context: &Context) -> Result<Parts, StartError> {
    let book: Shared = Arc::new(Mutex::new(Book::open(context.data.as_deref())?));
    let ledger = async |State(book): State<Shared>| Json(book.lock().ledger);
    let admin = Router::new().route("/ledger", get(ledger)).with_state(book.clone());
    Ok(Parts { router: Router::new().route("/charges", post(charge)).with_state(book), admin })
}

#[derive(Serialize)]
struct Receipt {
    number: u64,
    cents: u32,
}

async fn charge(State(book): State<Shared>, headers: HeaderMap, Json(charge): Json<Charge>) -> Response {
    let key = headers.get("idempotency-key").and_then(|k| k.to_str().ok()).filter(|k| !k.is_empty());
    let Some(key) = key.filter(|k| k.len() <= LONGEST_KEY) else {
        return (StatusCode::BAD_REQUEST, "Idempotency-Key is missing, or longer than 128 bytes\n").into_response();
    };
    let mut book = book.lock();
    if let Some((number, before)) = book.by_key.get(key) {
        if *before != charge {
            return (StatusCode::UNPROCESSABLE_ENTITY, "this Idempotency-Key was used for another charge\n")
                .into_response();
        }
        let receipt = Receipt { number: *number, cents: before.cents };
        book.ledger.replays += 1;
        return (StatusCode::OK, [("idempotency-replayed", "true")], Json(receipt)).into_response();
    }
    if book.by_key.len() >= MOST_KEYS {
        return (StatusCode::SERVICE_UNAVAILABLE, "the book is full\n").into_response();
    }
    if book.write(key, &charge).is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the journal cannot be written\n").into_response();
    }
    let cents = charge.cents;
    let number = book.enter(key.to_owned(), charge);
    (StatusCode::CREATED, Json(Receipt { number, cents })).into_response()
}
