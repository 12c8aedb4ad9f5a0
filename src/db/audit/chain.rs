//! The hash of an audit row: SHA-256 over the previous hash and the whole row, including its position. No I/O.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Hash that precedes the first row.
pub const GENESIS: [u8; 32] = [0; 32];
/// Domain separator with a format version, so that another encoding cannot produce the same input.
const FORM: &[u8] = b"regreen audit row 1";

/// A row as it is hashed, with texts as stored in the database.
#[derive(Debug, Clone)]
pub(super) struct ChainEntry {
    pub(super) id: i64,
    pub(super) at: DateTime<Utc>,
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) object_kind: String,
    pub(super) object: String,
    pub(super) outcome: String,
    pub(super) duration_ms: Option<i64>,
    pub(super) trace: String,
    pub(super) run: Option<Uuid>,
    pub(super) detail: String,
    pub(super) data: String,
    pub(super) seq: Option<i64>,
    pub(super) hash: Option<Vec<u8>>,
}

impl ChainEntry {
    /// Computes the row's hash at a position after the previous hash. Every field is length-prefixed, so that field
    /// boundaries are unambiguous.
    pub(super) fn sealed(&self, before: &[u8], seq: i64) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(FORM);
        field(before);
        field(&seq.to_be_bytes());
        field(&self.id.to_be_bytes());
        field(&self.at.timestamp_micros().to_be_bytes());
        let texts = [&self.actor, &self.action, &self.object_kind, &self.object, &self.outcome];
        texts.into_iter().for_each(|text| field(text.as_bytes()));
        field(&self.duration_ms.map_or(Vec::new(), |time| time.to_be_bytes().to_vec()));
        field(self.trace.as_bytes());
        field(self.run.as_ref().map_or(&[], |run| run.as_bytes()));
        field(self.detail.as_bytes());
        field(self.data.as_bytes());
        hash.finalize().into()
    }

    /// Returns whether the stored hash matches the position and the previous hash.
    pub(super) fn fits(&self, before: &[u8], seq: i64) -> bool {
        self.hash.as_deref() == Some(&self.sealed(before, seq))
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    fn link() -> ChainEntry {
        ChainEntry {
            id: 7,
            at: DateTime::UNIX_EPOCH,
            actor: "ab".into(),
            action: "c".into(),
            object_kind: "k".into(),
            object: "o".into(),
            outcome: "done".into(),
            duration_ms: Some(0),
            trace: String::new(),
            run: None,
            detail: "d".into(),
            data: "{}".into(),
            seq: None,
            hash: None,
        }
    }

    #[test]
    fn every_field_and_its_border_counts() {
        let changes: &[fn(&mut ChainEntry)] = &[
            |link| link.id = 8,
            |link| link.at += chrono::TimeDelta::microseconds(1),
            |link| (link.actor, link.action) = ("a".into(), "bc".into()),
            |link| link.object_kind = "x".into(),
            |link| link.object = "x".into(),
            |link| link.outcome = "failed".into(),
            |link| link.duration_ms = None,
            |link| (link.trace, link.detail) = ("d".into(), String::new()),
            |link| link.run = Some(Uuid::nil()),
            |link| link.data = "{ }".into(),
        ];
        let first = link().sealed(&GENESIS, 1);
        assert_eq!(first, link().sealed(&GENESIS, 1));
        for (number, change) in changes.iter().enumerate() {
            let mut other = link();
            change(&mut other);
            assert_ne!(first, other.sealed(&GENESIS, 1), "change {number}");
        }
        assert_ne!(first, link().sealed(&GENESIS, 2));
        assert_ne!(first, link().sealed(&[1; 32], 1));
    }
}
