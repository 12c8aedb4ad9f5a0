//! Tool names that model APIs accept: letters, digits, `_` and `-`, at most 64 characters, unique over all servers.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Maximum length of a name.
const MAX: usize = 64;

/// Returns one name for each `(server, tool)`: the tool's own name if it is legal and unique, else one with the server's
/// name, else one with a hash. A name depends on the names of the tools, not on their order, so that it keeps its meaning
/// when servers are added or removed.
pub(super) fn give<'a>(tools: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Vec<String> {
    let own = counted(tools.clone().map(|(_, tool)| legal(tool)));
    let with_server = counted(tools.clone().map(|(server, tool)| legal(&format!("{server}_{tool}"))));
    let free =
        |name: &String, count: &BTreeMap<String, usize>| name.len() <= MAX && count.get(name) == Some(&1);
    tools
        .map(|(server, tool)| {
            let (short, long) = (legal(tool), legal(&format!("{server}_{tool}")));
            if free(&short, &own) && !with_server.contains_key(&short) {
                short
            } else if free(&long, &with_server) && !own.contains_key(&long) {
                long
            } else {
                let hash = Sha256::digest(format!("{server}\n{tool}").as_bytes());
                let suffix = hex::encode(&hash[..4]);
                format!("{}_{suffix}", &long[..long.len().min(MAX - 9)])
            }
        })
        .collect()
}

fn counted(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
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
    fn names_are_legal_unique_and_do_not_hang_on_the_order() {
        let long = "x".repeat(80);
        let tools =
            [("a", "list"), ("b", "list"), ("b", "get.pod/v1"), ("c", &long), ("d", &long), ("d", "b_list")];
        let names = give(tools.into_iter());
        assert_eq!(names[0], "a_list");
        assert_eq!(names[2], "get_pod_v1");
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        assert!(
            names.iter().all(|name| name.len() <= MAX
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)))
        );
        let mut backwards = give(tools.into_iter().rev());
        backwards.reverse();
        assert_eq!(names, backwards);
    }
}
