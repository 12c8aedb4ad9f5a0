//! Where issues are filed.

use super::mcp::McpServer;
use super::reader::Reader;
use secrecy::SecretString;

/// Where issues are filed, pinned.
#[derive(Debug, Clone)]
pub struct Tracker {
    /// MCP server's name.
    pub server: String,
    /// Repository owner.
    pub owner: String,
    /// Repository.
    pub repo: String,
    /// Tool that files.
    pub create_tool: String,
    /// Tool that lists.
    pub list_tool: String,
    /// Tool that comments.
    pub comment_tool: String,
    /// What the tracker signs its webhooks with; without it they are refused.
    pub webhook_secret: Option<SecretString>,
}

pub(super) fn read(r: &mut Reader<'_>, mcp: &[McpServer]) -> Option<Tracker> {
    let server = r.required_text("tracker.server");
    let (owner, repo) = (r.text("tracker.owner"), r.text("tracker.repo"));
    let known = mcp.iter().any(|candidate| candidate.name == server);
    r.all_or_none(&["tracker.owner", "tracker.repo"], "issues need both, so that they never go elsewhere");
    if known && owner.is_none() && repo.is_none() {
        r.mistake(
            "`tracker.owner`, `tracker.repo`",
            format!("not set, but the MCP server `{server}` is; issues need both"),
        );
    }
    if !known && owner.is_some() && repo.is_some() {
        r.mistake("`tracker.server`", format!("owner and repository are set, but there is no MCP server `{server}`; set `gitea.url` or add `[[mcp]]`"));
    }
    Some(Tracker {
        server,
        owner: owner?,
        repo: repo?,
        create_tool: r.required_text("tracker.create_tool"),
        list_tool: r.required_text("tracker.list_tool"),
        comment_tool: r.required_text("tracker.comment_tool"),
        webhook_secret: r.signing_secret("tracker.webhook_secret", "events could be forged"),
    })
}
