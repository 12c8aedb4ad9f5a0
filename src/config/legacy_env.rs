//! Compatibility with the predecessor agent: applies its defaults when all variables that it required are set.

use super::setting::Env;
use std::collections::BTreeMap;

/// Variables that the predecessor required.
const REQUIRED: [&str; 4] = ["LITELLM_URL", "LITELLM_API_KEY", "MCP_OPENSHIFT_URL", "MCP_GITEA_URL"];

/// Legacy defaults of unset settings, with warnings.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    /// Values by setting key.
    pub(super) values: BTreeMap<&'static str, &'static str>,
    /// One sentence per legacy default.
    pub(super) warnings: Vec<String>,
}

/// Returns the legacy defaults if all required variables are set. `is_set` tells whether a setting has its own value;
/// `bind` is the configured listen address.
pub(super) fn defaults(env: Env<'_>, is_set: impl Fn(&str) -> bool, bind: Option<&str>) -> Replaced {
    let has = |name: &str| env(name).is_some_and(|value| !value.trim().is_empty());
    let mut replaced = Replaced::default();
    if !REQUIRED.iter().all(|name| has(name)) {
        return replaced;
    }
    let mut stand_in = |key, value| replaced.values.insert(key, value);
    let mut warnings = Vec::new();
    if !is_set("model.name") {
        stand_in("model.name", "openai/Llama-4-Scout-17B-16E-W4A16");
        warnings.push("`model.name` is not set: the model is openai/Llama-4-Scout-17B-16E-W4A16, as it was for the Python agent; set LITELLM_MODEL to name it".to_owned());
    }
    if !is_set("tracker.owner") && !is_set("tracker.repo") {
        stand_in("tracker.owner", "user1");
        stand_in("tracker.repo", "mcp");
        warnings.push("`tracker.owner` and `tracker.repo` are not set: issues go to user1/mcp, as those of the Python agent did; set GITEA_OWNER and GITEA_REPO".to_owned());
    }
    // In a container, the predecessor listened on all addresses.
    if has("container") {
        if bind.is_none() && has("PORT") {
            stand_in("server.bind", "0.0.0.0");
        }
        let is_reached = bind
            .map_or(has("PORT"), |bind| bind.parse().is_ok_and(|bind: std::net::IpAddr| !bind.is_loopback()));
        if is_reached && !is_set("auth.methods") {
            stand_in("auth.methods", "none");
            warnings.push("`auth.methods` is not set: whoever reaches this server may do everything, as with the Python agent; set REGREEN_AUTH to any of keys, oidc, kubernetes, or REGREEN_BIND to 127.0.0.1".to_owned());
        }
    }
    replaced.warnings = warnings;
    replaced
}
