//! The embedded engine.

pub mod images;
pub mod network;
