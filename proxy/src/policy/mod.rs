//! The policies, a room each. Their order is in `stack/`; none of them knows another.

pub mod authz;
pub mod balance;
pub mod breaker;
pub mod fault;
pub mod forward;
pub mod headers;
pub mod observe;
pub mod retry;
pub mod route;
pub mod timeout;
pub mod trace;
pub mod upgrade;
