//! `catalog`: titles, the rows of the front page, and what is popular, over HTTP.

use super::titles::{GENRES, TITLES, Title, number, title};
use crate::app::Parts;
use axum::{Json, Router, extract::Path, routing::get};
use http::StatusCode;
use std::collections::BTreeMap;

pub(super) fn build() -> Parts {
    let router = Router::new()
        .route("/titles/{id}", get(one))
        .route("/popular", get(async || Json(popular())))
        .route("/rows", get(async || Json(rows())));
    Parts { router, admin: Router::new() }
}

async fn one(Path(id): Path<String>) -> Result<Json<Title>, StatusCode> {
    number(&id).map(|n| Json(title(n))).ok_or(StatusCode::NOT_FOUND)
}

fn popular() -> Vec<Title> {
    (0..10).map(|i| title(i * 37 + 5)).collect()
}

fn rows() -> BTreeMap<&'static str, Vec<Title>> {
    let row = |genre: &'static str| (genre, (0..TITLES).map(title).filter(|t| t.genre == genre).take(8).collect());
    GENRES.into_iter().map(row).collect()
}
