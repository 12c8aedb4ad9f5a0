//! What is told to people outside, and who wants to hear it.

use super::FailureClass;
use globset::GlobSet;
use std::time::Duration;

/// How new what happened is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    pub const ALL: [Self; 4] = [Self::New, Self::Returned, Self::Known, Self::Failed];

    /// Stable name, as stored and sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Returned => "returned",
            Self::Known => "known",
            Self::Failed => "failed",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|novelty| novelty.as_str() == name)
    }
}

/// What somebody wants to hear.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of these namespaces.
    pub namespaces: GlobSet,
    /// Of these classes; empty for all, those of failed reports, which have none, too.
    pub classes: Vec<FailureClass>,
    /// Of this novelty.
    pub novelties: Vec<Novelty>,
    /// Messages are at least so far apart; what happens meanwhile comes as one.
    pub every: Duration,
}

impl Wanted {
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
