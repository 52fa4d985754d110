//! The services: a room each, and the table that finds one by its name. They never import each other.

mod analytics;
mod billing;
mod catalog;
mod playback;
mod profiles;
mod recommendations;
pub mod titles;
pub mod video;
mod web;

use crate::app::{Context, Parts, StartError};

pub use billing::Ledger;
pub use web::{Flood, HOME_DEADLINE};

/// Builds the service of a name.
pub fn build(name: &str, context: Context) -> Result<Parts, StartError> {
    match name {
        "web" => Ok(web::build(context)),
        "profiles" => Ok(profiles::build()),
        "catalog" => Ok(catalog::build()),
        "recommendations" => Ok(recommendations::build()),
        "playback" => Ok(playback::build()),
        "video" => Ok(video::build()),
        "analytics" => Ok(analytics::build(&context)),
        "billing" => billing::build(&context),
        other => Err(StartError::Unknown(other.to_owned())),
    }
}
