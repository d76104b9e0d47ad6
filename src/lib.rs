//! hzel: a self-hosted cloud for Linux containers in one binary.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod db;
pub mod domain;
pub mod error;
pub mod jobs;
pub mod runtime;
pub mod web;
