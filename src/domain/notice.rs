//! What is told to people outside, and who wants to hear it.

use super::FailureClass;
use globset::GlobSet;
use std::time::Duration;
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};

/// How new what happened is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, EnumString, VariantArray, VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum Novelty {
    /// A cause that was never seen before.
    New,
    /// A cause that was solved and is back.
    Returned,
    /// A cause that is known and still open.
    Known,
    /// A report that could not be worked on.
    Failed,
}

impl Novelty {
    /// All of them.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Their names.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// What somebody wants to hear.
#[derive(Debug, Clone)]
pub struct NotificationFilter {
    /// Of these namespaces.
    pub namespaces: GlobSet,
    /// Of these classes; empty for all, those of failed reports, which have none, too.
    pub classes: Vec<FailureClass>,
    /// Of this novelty.
    pub novelties: Vec<Novelty>,
    /// Messages are at least so far apart; what happens meanwhile comes as one.
    pub every: Duration,
}

impl NotificationFilter {
    /// Whether this is wanted.
    #[must_use]
    pub fn fits(&self, novelty: Novelty, namespace: &str, class: Option<FailureClass>) -> bool {
        self.novelties.contains(&novelty) && self.concerns(namespace, class)
    }

    /// Whether it is of what is wanted, however new.
    #[must_use]
    pub fn concerns(&self, namespace: &str, class: Option<FailureClass>) -> bool {
        self.namespaces.is_match(namespace)
            && (self.classes.is_empty() || class.is_some_and(|class| self.classes.contains(&class)))
    }
}
