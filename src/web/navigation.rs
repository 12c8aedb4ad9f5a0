//! Groups of page sections for the navigation, with their keyboard shortcuts.

use super::value::value;
use crate::domain::Role;
use minijinja::Environment;
use serde::Serialize;

/// A section of the pages.
#[derive(Debug, Clone, Copy, Serialize)]
struct Section {
    name: &'static str,
    path: &'static str,
    /// Key that opens the section after `g`.
    key: char,
    /// Minimum role that sees the section.
    role: Role,
}

const fn section(name: &'static str, path: &'static str, key: char, role: Role) -> Section {
    Section { name, path, key, role }
}

/// A group of sections.
#[derive(Debug, Clone, Copy, Serialize)]
struct Group {
    name: &'static str,
    sections: &'static [Section],
}

const GROUPS: &[Group] = &[
    Group {
        name: "Failures",
        sections: &[
            section("Overview", "/", 'o', Role::Viewer),
            section("Incidents", "/incidents", 'i', Role::Viewer),
            section("Reports", "/reports", 'r', Role::Viewer),
        ],
    },
    Group {
        name: "Assistant",
        sections: &[
            section("Chat", "/chat", 'c', Role::Operator),
            section("Conversations", "/conversations", 'v', Role::Viewer),
            section("Approvals", "/approvals", 'p', Role::Viewer),
        ],
    },
    Group {
        name: "Knowledge and tools",
        sections: &[
            section("Runbooks", "/runbooks", 'b', Role::Viewer),
            section("MCP servers", "/mcp-servers", 'm', Role::Viewer),
            section("Agents", "/agents", 't', Role::Viewer),
        ],
    },
    Group {
        name: "Administration",
        sections: &[
            section("Usage", "/usage", 'u', Role::Viewer),
            section("Audit", "/audit", 'a', Role::Admin),
            section("Keys", "/keys", 'k', Role::Admin),
            section("Settings", "/settings", 's', Role::Admin),
            section("API", "/docs", 'd', Role::Viewer),
        ],
    },
];

/// Sections for callers without access to all namespaces.
const OWN: &[Group] = &[Group {
    name: "Reports",
    sections: &[
        section("Your reports", "/", 'o', Role::Reporter),
        section("Report a failure", "/reports/new", 'n', Role::Reporter),
    ],
}];

/// Adds the navigation to the templates: for callers with access to everything that viewers see, and for others.
pub(super) fn globals(environment: &mut Environment<'_>) {
    environment.add_global("groups", value(GROUPS));
    environment.add_global("own_groups", value(OWN));
    // Flat list for custom layouts.
    let flat = GROUPS.iter().flat_map(|group| group.sections);
    let flat = flat.map(|section| vec![section.name, section.path, section.role.as_str()]);
    environment.add_global("nav", flat.collect::<Vec<_>>());
}

#[cfg(test)]
mod unit {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_section_has_a_key_of_its_own() {
        for groups in [GROUPS, OWN] {
            let all: Vec<&Section> = groups.iter().flat_map(|group| group.sections).collect();
            let keys: BTreeSet<char> = all.iter().map(|section| section.key).collect();
            assert_eq!(keys.len(), all.len(), "{all:?}");
        }
    }
}
