//! Decisions as pure values: no async, no clock and no randomness of their own.
