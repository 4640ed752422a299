//! The `notify` backend.
