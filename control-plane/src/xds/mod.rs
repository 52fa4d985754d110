//! Configuration on its way to the sidecars.

pub mod machine;
