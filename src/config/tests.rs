//! What a configuration becomes and how its mistakes read.

use super::{Config, Mistakes, Transport, markdown_table};

fn load(file: &str, env: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let lookup = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Config::from_layers(&file.parse().unwrap(), &lookup)
}

fn mistakes(file: &str, env: &[(&str, &str)]) -> String {
    load(file, env).unwrap_err().to_string()
}

#[test]
fn nothing_set_is_a_working_configuration() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.server.port, 8000);
    assert!(config.model.is_none() && config.tracker.is_none() && config.mcp.is_empty());
    assert_eq!(config.agent.turns, 12);
}

#[test]
fn the_variables_of_the_replaced_agent_keep_their_meaning() {
    let env = [
        ("LITELLM_URL", "http://litellm:4000"),
        ("LITELLM_API_KEY", "sk-1"),
        ("LITELLM_MODEL", "gpt-4o"),
        ("MCP_OPENSHIFT_URL", "http://mcp-openshift:8080/sse"),
        ("MCP_GITEA_URL", "http://mcp-gitea:8080/mcp"),
        ("GITEA_OWNER", "platform"),
        ("GITEA_REPO", "failures"),
        ("PORT", "9000"),
    ];
    let config = load("", &env).unwrap();
    assert_eq!(config.server.port, 9000);
    assert_eq!(config.model.as_ref().map(|model| model.name.as_str()), Some("gpt-4o"));
    assert_eq!(config.mcp[0].transport, Transport::Sse { url: "http://mcp-openshift:8080/sse".into() });
    assert_eq!(
        config.mcp[1].transport,
        Transport::StreamableHttp { url: "http://mcp-gitea:8080/mcp".into() }
    );
    let tracker = config.tracker.unwrap();
    assert_eq!((tracker.owner.as_str(), tracker.repo.as_str()), ("platform", "failures"));
    assert!(!format!("{:?}", config.model).contains("sk-1"), "secrets do not print");
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = load("[server]\nport = 1", &[("REGREEN_PORT", "2")]).unwrap();
    assert_eq!(config.server.port, 2);
    assert_eq!(load("[server]\nport = 1", &[]).unwrap().server.port, 1);
}

#[test]
fn every_mistake_is_named_at_once() {
    let file = "[servr]\nport = 1\n[server]\nprot = 1\n[[mcp]]\nname = \"x\"\ntransport = \"pigeon\"\n";
    let env = [("PORT", "many"), ("LITELLM_URL", "http://m"), ("GITEA_OWNER", "o"), ("REGREEN_WAIT", "soon")];
    insta::assert_snapshot!(mistakes(file, &env), @r"
    the configuration has 7 mistakes:
      `server.prot` (file): there is no such setting; did you mean `server.port`?
      `servr.port` (file): there is no such setting; did you mean `server.port`?
      `mcp` server `x` transport: `pigeon` is not one of stdio, streamable-http, sse, websocket
      `server.port` (PORT): `many` is not a number from 0 to 65535
      `server.wait` (REGREEN_WAIT): `soon` is not a time such as `30s`, `5m` or `500ms`
      `model.name`: is not set, but `model.url` is; a model needs both
      `tracker.repo`: is not set, but `tracker.owner` is; issues need both, so that they never go elsewhere
    ");
}

#[test]
fn half_set_groups_are_refused() {
    assert!(mistakes("", &[("GITEA_OWNER", "o"), ("GITEA_REPO", "r")]).contains("no MCP server `gitea`"));
    assert!(mistakes("", &[("MCP_GITEA_URL", "http://g/mcp")]).contains("`tracker.owner`, `tracker.repo`"));
    assert!(mistakes("", &[("LITELLM_MODEL", "m")]).contains("`model.url`"));
}

#[test]
fn the_table_in_the_readme_is_this_one() {
    let readme = include_str!("../../README.md");
    assert!(
        readme.contains(&markdown_table()),
        "print it with `regreen check-config --table` and paste it into README.md"
    );
}
