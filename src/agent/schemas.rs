//! Compiled schemas of tools' arguments, shared by all runs: the same tools are called in every one.

use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Schemas that are kept compiled.
const MAX_KEPT: usize = 1_000;

/// Compiled schemas by their text. Cloning shares.
#[derive(Debug, Clone, Default)]
pub struct Schemas(Arc<Mutex<HashMap<String, Option<Arc<jsonschema::Validator>>>>>);

impl Schemas {
    /// The schema compiled; `None` for one that does not compile.
    pub(super) fn validator(&self, schema: &Value) -> Option<Arc<jsonschema::Validator>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = schema.to_string();
        if !known.contains_key(&key) && known.len() >= MAX_KEPT {
            known.clear();
        }
        known.entry(key).or_insert_with(|| jsonschema::validator_for(schema).ok().map(Arc::new)).clone()
    }
}
