//! What hzel is about: one file per noun, each the only way to that noun for pages, API and jobs.

pub mod ids;
