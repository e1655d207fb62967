//! Rookery.
