//! Compiled schemas of tool arguments, shared by all runs, because all runs use the same tools.

use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Maximum number of compiled schemas in memory.
const MAX_KEPT: usize = 1_000;

/// Compiled schemas by their JSON text. Cloning shares the cache.
#[derive(Debug, Clone, Default)]
pub struct Schemas(Arc<Mutex<HashMap<String, Option<Arc<jsonschema::Validator>>>>>);

impl Schemas {
    /// Returns the compiled schema; `None` if it does not compile.
    pub(super) fn validator(&self, schema: &Value) -> Option<Arc<jsonschema::Validator>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = schema.to_string();
        if !known.contains_key(&key) && known.len() >= MAX_KEPT {
            known.clear();
        }
        known.entry(key).or_insert_with(|| jsonschema::validator_for(schema).ok().map(Arc::new)).clone()
    }
}
