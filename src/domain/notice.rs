//! Notifications to external channels, and the filters that select them.

use super::FailureClass;
use globset::GlobSet;
use std::time::Duration;
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};

/// Novelty of the reported cause.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, EnumString, VariantArray, VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum Novelty {
    /// A cause seen for the first time.
    New,
    /// A resolved cause that occurred again.
    Returned,
    /// A known cause that is still open.
    Known,
    /// A report that could not be processed.
    Failed,
}

impl Novelty {
    /// All values.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// Names of all values.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Stable name, as stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Parses a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// Selects the notifications of one channel.
#[derive(Debug, Clone)]
pub struct NotificationFilter {
    /// Namespaces to notify about.
    pub namespaces: GlobSet,
    /// Failure classes to notify about. Empty means all, including failed reports, which have no class.
    pub classes: Vec<FailureClass>,
    /// Novelties to notify about.
    pub novelties: Vec<Novelty>,
    /// Minimum time between messages; events in between are combined into one message.
    pub every: Duration,
}

impl NotificationFilter {
    /// Whether an event matches the filter.
    #[must_use]
    pub fn fits(&self, novelty: Novelty, namespace: &str, class: Option<FailureClass>) -> bool {
        self.novelties.contains(&novelty) && self.concerns(namespace, class)
    }

    /// Whether namespace and class match, regardless of novelty.
    #[must_use]
    pub fn concerns(&self, namespace: &str, class: Option<FailureClass>) -> bool {
        self.namespaces.is_match(namespace)
            && (self.classes.is_empty() || class.is_some_and(|class| self.classes.contains(&class)))
    }
}
