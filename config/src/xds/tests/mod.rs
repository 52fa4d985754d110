//! Whatever the model can say survives the wire; whatever comes from the wire is understood, noted or refused by name.

mod hostile;
mod real_envoy;
mod refusals;
mod round_trip;
mod values;
