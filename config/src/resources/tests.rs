//! Tests of the whole room.

mod broken;
mod whole;
