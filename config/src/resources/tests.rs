//! Tests of the whole room.

mod broken;
mod external;
mod whole;
