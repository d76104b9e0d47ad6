//! hzel: a self-hosted cloud for Linux containers in one binary.

pub mod domain;
pub mod runtime;
