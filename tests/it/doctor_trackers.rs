//! `regreen doctor` before servers of the field: GitHub's own, where a pin of the policy leads, and Jenkins', whose tools say nothing
//! of themselves.

use crate::doctor::{doctor, migrated};
use crate::support::github::Github;
use crate::support::{Setup, apis, real_servers};

#[tokio::test(flavor = "multi_thread")]
async fn doctor_knows_githubs_server_where_a_pin_leads_and_which_tools_of_jenkins_only_look() {
    let (github, builds) = (Github::start().await, apis::jenkins().await);
    github.others_file(1);
    let jenkins = real_servers::jenkins(&builds.url).await;
    let policy = tempfile::NamedTempFile::new().unwrap();
    let rule = "[[rule]]\nserver = \"github\"\ntool = \"create_issue\"\npin = { repo = \"elsewhere\" }\ndecision = \"allow\"\n";
    std::fs::write(policy.path(), rule).unwrap();
    let table =
        format!("[[mcp]]\nname = \"jenkins\"\ntransport = \"streamable-http\"\nurl = \"{}\"\n", jenkins.url);
    let setup = migrated(Setup::bare().await).await.file(&github.table()).file(&table);
    let setup = setup.set("REGREEN_TRACKER_SERVER", "github").set("REGREEN_TRACKER_OWNER", "platform");
    let setup = setup.set("REGREEN_TRACKER_REPO", "failures");
    let told = doctor(&setup).await;
    told.has("tools", "ok", "`create_issue` of `github` (`tracker.create_tool`) is there and fits", "")
        .has("tools", "ok", "`list_issues` of `github` (`tracker.list_tool`) is there and fits; it reads", "")
        .has("tools", "ok", "`add_issue_comment` of `github` (`tracker.comment_tool`) is there and fits", "")
        .has(
            "tracker",
            "ok",
            "issues go to platform/failures through `github`; those there can be listed",
            "",
        )
        .has("mcp", "note", "none is said to only read", "such as `read = [\"get_*\"");
    let told = doctor(&setup.set("REGREEN_POLICY_FILE", policy.path().to_str().unwrap())).await;
    told.fails(
        "tools",
        "`create_issue` of `github` (`tracker.create_tool`) does not fit: a rule of `policy.file` sets its `repo` to \"elsewhere\"",
        "tracker.create_arguments",
    );
}
