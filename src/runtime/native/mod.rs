//! The embedded engine.

pub mod network;
