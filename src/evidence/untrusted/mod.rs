//! What machines and strangers wrote, on its way to a model, to people and out of the house: hidden characters, fences,
//! links, and what must not leave.

pub mod fence;
pub mod hidden;
pub mod leak;
pub mod link_policy;
pub mod markdown;
