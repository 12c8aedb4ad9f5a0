//! Names that a model's API accepts: letters, digits, `_`, `-`, at most 64 characters, unique over all servers.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// Longest name.
const MAX: usize = 64;

/// Gives names in the order servers and tools come in, so that they are stable.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The tool's own name if it is legal and free, else one with the server's, else one with a hash.
    pub(super) fn give(&mut self, server: &str, tool: &str) -> String {
        let own = legal(tool);
        let with_server = legal(&format!("{server}_{tool}"));
        let hash = Sha256::digest(format!("{server}\n{tool}").as_bytes());
        let suffix: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let hashed = format!("{}_{suffix}", &with_server[..with_server.len().min(MAX - 9)]);
        let fits = |name: &&String| name.len() <= MAX && !self.taken.contains(*name);
        let mut name = [&own, &with_server].into_iter().find(fits).unwrap_or(&hashed).clone();
        while !self.taken.insert(name.clone()) {
            name = format!("{}_", &name[..name.len().min(MAX - 1)]);
        }
        name
    }
}

fn legal(name: &str) -> String {
    let legal = |c: char| {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }
    };
    let name: String = name.chars().map(legal).collect();
    if name.is_empty() { "tool".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_unique_and_stable() {
        let give = || {
            let mut names = Names::default();
            let long = "x".repeat(80);
            [("a", "list"), ("b", "list"), ("b", "get.pod/v1"), ("c", &long), ("d", &long), ("b", "list")]
                .map(|(server, tool)| names.give(server, tool))
        };
        let names = give();
        assert_eq!(names, give());
        assert_eq!(names[..3], ["list", "b_list", "get_pod_v1"]);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(names.iter().all(|name| name.len() <= MAX));
    }
}
