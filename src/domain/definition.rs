//! Tool definitions, and how a changed definition affects earlier decisions.

use super::tool::{Access, sorted};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use utoipa::ToSchema;

/// A tool as its server defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Definition {
    /// What it does, in the server's words.
    pub description: String,
    /// JSON Schema of its arguments.
    #[schema(value_type = Object)]
    pub input_schema: Arc<Value>,
    /// The server says that it only reads.
    pub reads: bool,
    /// `read` or `write`: what the server says, unless the configuration says otherwise.
    #[schema(value_type = String)]
    pub access: Access,
}

/// Identifies a server by name and address: the same name at another address is another server.
#[derive(Debug, Clone, Copy)]
pub struct ServerKey<'a> {
    /// Server name.
    pub name: &'a str,
    /// Server address.
    pub address: &'a str,
}

/// Effect of a changed definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The new definition applies immediately and is recorded.
    Noted,
    /// The new definition waits for confirmation by an admin.
    Waits,
}

impl Definition {
    /// Hash of the server's name and address and of everything that a policy or a person may have judged the tool by. SHA-256
    /// in hexadecimal.
    #[must_use]
    pub fn hash(&self, server: ServerKey<'_>, tool: &str) -> String {
        let Self { description, input_schema, reads, access } = self;
        let schema = sorted(Value::clone(input_schema));
        let all = json!([server.name, server.address, tool, description, schema, reads, access]);
        hex::encode(Sha256::digest(all.to_string().as_bytes()))
    }

    /// Returns the effect of a change from this definition to `new`; `is_ruled` means that a policy rule covers the tool.
    /// Changes made by the configuration need no confirmation.
    #[must_use]
    pub fn change(&self, new: &Self, is_ruled: bool) -> Change {
        let became_reading =
            !self.reads && new.reads && self.access == Access::Write && new.access == Access::Read;
        let says_else =
            self.reads != new.reads || self.description != new.description || self.schema_differs(new);
        if became_reading || (is_ruled && says_else) { Change::Waits } else { Change::Noted }
    }

    fn schema_differs(&self, new: &Self) -> bool {
        sorted(Value::clone(&self.input_schema)) != sorted(Value::clone(&new.input_schema))
    }

    /// Access that applies while a change waits for confirmation: the stricter of both.
    #[must_use]
    pub fn stricter(&self, new: &Self) -> Access {
        if self.access == Access::Write { Access::Write } else { new.access }
    }

    /// Describes the difference, without the server's own texts.
    #[must_use]
    pub fn difference(&self, new: &Self) -> String {
        let mut parts = Vec::new();
        let name = |access| if access == Access::Read { "read" } else { "write" };
        if self.access != new.access {
            parts.push(format!("access {} to {}", name(self.access), name(new.access)));
        }
        let others = [
            ("hint that it only reads", self.reads != new.reads && self.access == new.access),
            ("description", self.description != new.description),
            ("schema", self.schema_differs(new)),
        ];
        parts.extend(others.iter().filter(|(_, differs)| *differs).map(|(what, _)| (*what).to_owned()));
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(description: &str, schema: &str, reads: bool) -> Definition {
        Definition {
            description: description.to_owned(),
            input_schema: Arc::new(serde_json::from_str(schema).unwrap()),
            reads,
            access: if reads { Access::Read } else { Access::Write },
        }
    }

    #[test]
    fn a_hash_covers_the_server_and_all_that_is_judged_by() {
        let one = definition("restarts", r#"{"type": "object", "properties": {"a": {}, "b": {}}}"#, false);
        let lab = ServerKey { name: "lab", address: "here" };
        let hash = |definition: &Definition| definition.hash(lab, "restart");
        let reordered =
            definition("restarts", r#"{"properties": {"b": {}, "a": {}}, "type": "object"}"#, false);
        assert_eq!(hash(&one), hash(&reordered));
        let others = [
            hash(&definition("deletes", r#"{"type": "object", "properties": {"a": {}, "b": {}}}"#, false)),
            hash(&definition("restarts", r#"{"type": "object"}"#, false)),
            hash(&definition("restarts", r#"{"type": "object", "properties": {"a": {}, "b": {}}}"#, true)),
            one.hash(ServerKey { address: "elsewhere", ..lab }, "restart"),
            one.hash(ServerKey { name: "other", ..lab }, "restart"),
            one.hash(lab, "stop"),
        ];
        assert!(others.iter().all(|other| *other != hash(&one)));
    }

    #[test]
    fn what_becomes_harmless_by_its_own_word_waits_and_so_does_what_a_rule_speaks_of() {
        let writes = definition("a", "{}", false);
        let reads = definition("a", "{}", true);
        let other = definition("b", "{}", false);
        let by_configuration = Definition { access: Access::Read, ..writes.clone() };
        for (old, new, is_ruled, expected) in [
            (&writes, &reads, false, Change::Waits),
            (&reads, &writes, false, Change::Noted),
            (&reads, &writes, true, Change::Waits),
            (&writes, &other, false, Change::Noted),
            (&writes, &other, true, Change::Waits),
            (&writes, &by_configuration, true, Change::Noted),
            (&by_configuration, &reads, false, Change::Noted),
            (&by_configuration, &writes, true, Change::Noted),
        ] {
            assert_eq!(old.change(new, is_ruled), expected, "{old:?} to {new:?}, ruled: {is_ruled}");
        }
        assert_eq!(writes.stricter(&reads), Access::Write);
        assert_eq!(reads.stricter(&writes), Access::Write);
        assert_eq!(writes.difference(&Definition { reads: true, ..reads }), "access write to read");
        assert_eq!(writes.difference(&other), "description");
    }
}
