//! What is told about requests: metrics, the access log, trace headers.
