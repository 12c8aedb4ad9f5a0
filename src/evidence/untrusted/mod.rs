//! Handling of untrusted text for models, people and external systems: hidden characters, delimiters, links, and leaks.

pub mod fence;
pub mod hidden;
pub mod leak;
pub mod link_policy;
pub mod markdown;
