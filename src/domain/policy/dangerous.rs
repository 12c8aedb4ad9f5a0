//! Tools that need a rule with their name, regardless of the server's description: they run code, destroy or replace
//! resources, or reveal secrets.

use globset::{Glob, GlobSet, GlobSetBuilder};
use std::sync::LazyLock;

/// Patterns for lower-case names with `_` between words. Derived from the tools of MCP servers for Kubernetes, Jenkins,
/// Gitea and GitHub; they also match similar tools of other servers.
const PATTERNS: [&str; 39] = [
    // Run code or commands.
    "*groovy*",
    "*exec*",
    "*run*script*",
    "*script*run*",
    "*eval*script*",
    "*shell*",
    "*run_command*",
    "*kubectl_generic*",
    "*pod*run*",
    "*run*pod*",
    "*debug_container*",
    // Delete or disrupt resources.
    "*delete*",
    "*destroy*",
    "*remove*",
    "*purge*",
    "*prune*",
    "*wipe*",
    "*truncate*",
    "*uninstall*",
    "*drain*",
    "*evict*",
    // Replace arbitrary content.
    "*create_or_update*",
    "*apply*",
    "patch_*",
    "*_patch",
    "*_patch_*",
    "set_*config*",
    "*_set_config*",
    "install_*",
    "*_install",
    "*helm_upgrade*",
    "*force_push*",
    "push_files",
    "*manage*config",
    // Reveal secrets or create tokens.
    "*secret*",
    "*create*token*",
    // Reveal the server's own credentials.
    "configuration_view",
    "*kube*config*",
    "*config_view*",
];

static SET: LazyLock<GlobSet> = LazyLock::new(|| {
    let mut set = GlobSetBuilder::new();
    for pattern in PATTERNS {
        set.add(Glob::new(pattern).expect("a test builds every pattern"));
    }
    set.build().expect("a test builds the set")
});

/// Returns the pattern that matches a tool name, if any.
pub(super) fn pattern(name: &str) -> Option<&'static str> {
    let name = in_words(name);
    SET.matches(&name).first().map(|index| PATTERNS[*index])
}

/// Whether the text of a glob matches a pattern that also matches the tool name.
pub(super) fn names(text: &str, name: &str) -> bool {
    let (said, meant) = (SET.matches(in_words(text)), SET.matches(in_words(name)));
    meant.iter().any(|pattern| said.contains(pattern))
}

/// Converts `podsDelete`, `Pods-Delete` and `pods.delete` to `pods_delete`.
fn in_words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && after_lower {
            words.push('_');
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
        if matches!(c, '-' | '.' | '/' | ' ' | ':') {
            words.push('_');
        } else {
            words.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn tools_of_the_field_that_need_a_rule() {
        for name in [
            "run_groovy_script",
            "runGroovyScript",
            "set_item_config",
            "set_node_config",
            "setNodeConfig",
            "pods_exec",
            "pods_run",
            "pods_delete",
            "podsDelete",
            "Pods-Delete",
            "resources_delete",
            "resources_create_or_update",
            "helm_install",
            "helm_uninstall",
            "kubectl_apply",
            "kubectl_patch",
            "exec_in_pod",
            "delete_file",
            "deleteRepo",
            "push_files",
            "create_or_update_file",
            "kiali_manage_istio_config",
            "create_repo_action_secret",
            "get_secret",
            "configuration_view",
            "configurationView",
            "get_kubeconfig",
            "kubectl_config_view",
        ] {
            assert!(pattern(name).is_some(), "{name}");
        }
    }

    #[test]
    fn tools_of_the_field_that_need_none() {
        for name in [
            "pods_log",
            "pods_get",
            "pods_list_in_namespace",
            "pods_top",
            "events_list",
            "resources_get",
            "resources_list",
            "resources_scale",
            "configuration_contexts_list",
            "nodes_log",
            "tekton_pipelinerun_logs",
            "get_build_console_output",
            "get_build_scripts",
            "get_item_config",
            "get_node_config",
            "build_item",
            "create_issue",
            "add_comment",
            "list_subscriptions",
            "dispatch_workflow",
            "merge_pull_request",
            "kiali_manage_istio_config_read",
        ] {
            assert_eq!(pattern(name), None, "{name}");
        }
    }
}
