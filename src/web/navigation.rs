//! The sections of the pages, in groups: what the navigation shows, and which keys lead there.

use super::value::value;
use crate::domain::Role;
use minijinja::Environment;
use serde::Serialize;

/// A section of the pages.
#[derive(Debug, Clone, Copy, Serialize)]
struct Section {
    name: &'static str,
    path: &'static str,
    /// After `g`, it leads there.
    key: char,
    /// The least role that sees it.
    role: Role,
}

const fn section(name: &'static str, path: &'static str, key: char, role: Role) -> Section {
    Section { name, path, key, role }
}

/// Sections that belong together.
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

/// What whoever may only report sees.
const OWN: &[Group] = &[Group {
    name: "Reports",
    sections: &[
        section("Your reports", "/", 'o', Role::Reporter),
        section("Report a failure", "/reports/new", 'n', Role::Reporter),
    ],
}];

/// What the layout shows: to those who may see all that viewers see, and to the others.
pub(super) fn globals(environment: &mut Environment<'_>) {
    environment.add_global("groups", value(GROUPS));
    environment.add_global("own_groups", value(OWN));
    // As layouts in a folder of one's own know it.
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
