//! Weir in a real cluster: the API server takes our kinds, the control plane follows it, and writes back.

mod cluster;
mod control_plane;
mod crds;
mod demo;
mod images;
mod injection;
mod installed;
mod large;
mod pods;
mod services;
mod webhook;
