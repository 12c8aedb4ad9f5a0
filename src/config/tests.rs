//! Tests of configuration values and error messages.

use super::{Config, ConfigErrors, Transport, markdown_table};
use crate::domain::Money;

fn load(file: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
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

/// Only the variables that the predecessor agent required.
const REQUIRED: [(&str, &str); 4] = [
    ("LITELLM_URL", "http://litellm:4000"),
    ("LITELLM_API_KEY", "sk-1"),
    ("MCP_OPENSHIFT_URL", "http://mcp-openshift:8080/sse"),
    ("MCP_GITEA_URL", "http://mcp-gitea:8080/mcp"),
];

#[test]
fn what_the_replaced_agent_required_is_enough() {
    let config = load("", &REQUIRED).unwrap();
    let (model, tracker) = (config.model.unwrap(), config.tracker.unwrap());
    assert_eq!(model.name, "openai/Llama-4-Scout-17B-16E-W4A16");
    assert_eq!((tracker.owner.as_str(), tracker.repo.as_str()), ("user1", "mcp"));
    assert!(config.server.bind.is_loopback() && config.warnings.len() == 2, "{:?}", config.warnings);
    let whole = [("LITELLM_MODEL", "m"), ("GITEA_OWNER", "o"), ("GITEA_REPO", "r")];
    let config = load("", &[&REQUIRED[..], &whole].concat()).unwrap();
    assert_eq!((config.model.unwrap().name.as_str(), config.warnings.len()), ("m", 0));
    assert!(mistakes("", &REQUIRED[..3]).contains("`model.name`"), "one is missing");
    let half = [&REQUIRED[..], &[("GITEA_OWNER", "o")]].concat();
    assert!(mistakes("", &half).contains("`tracker.repo`"), "no half of a place for issues is made up");
}

#[test]
fn in_a_container_the_replaced_agent_was_reached_by_others() {
    let with = |more: &[(&'static str, &'static str)]| load("", &[&REQUIRED[..], more].concat());
    let bound =
        |config: &Config| (config.server.bind.to_string(), config.auth.is_on(), config.warnings.len());
    let (container, port) = (("container", "oci"), ("PORT", "8080"));
    let (all, own) = (("REGREEN_BIND", "0.0.0.0"), ("REGREEN_BIND", "127.0.0.1"));
    let told = with(&[container, port]).unwrap();
    assert_eq!(bound(&told), ("0.0.0.0".to_owned(), false, 3));
    assert!(told.warnings[2].contains("set REGREEN_AUTH"), "{:?}", told.warnings);
    assert_eq!(bound(&with(&[container, all]).unwrap()), ("0.0.0.0".to_owned(), false, 3));
    for here in [&[container][..], &[port], &[container, port, own]] {
        assert_eq!(bound(&with(here).unwrap()), ("127.0.0.1".to_owned(), false, 2), "{here:?}");
    }
    let keys = with(&[container, port, ("REGREEN_AUTH", "keys")]).unwrap();
    assert_eq!(bound(&keys), ("0.0.0.0".to_owned(), true, 2));
    assert!(with(&[all]).unwrap_err().to_string().contains("`auth.methods`"), "not in a container");
    assert!(mistakes("", &[container, port, all]).contains("`auth.methods`"), "not the agent's variables");
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
fn the_first_price_that_fits_a_model_holds() {
    let file = "[[price]]\nmodel = \"gpt-4o-mini*\"\ninput = 0.15\noutput = 0.6\ncached_input = 0.075\n\
                [[price]]\nmodel = \"gpt-4o*\"\ninput = 2.5\noutput = 10\n\
                [model]\ninput_price = 1\noutput_price = 2\n";
    let prices = load(file, &[]).unwrap().budget.prices;
    let of = |model: &str| prices.of(model).map(|price| [price.input, price.output, price.cached_input]);
    let amounts = |amounts: [f64; 3]| Some(amounts.map(|amount| Money::of(amount).unwrap()));
    assert_eq!(of("gpt-4o-mini-2024"), amounts([0.15, 0.6, 0.075]));
    assert_eq!(of("gpt-4o"), amounts([2.5, 10.0, 2.5]));
    assert_eq!(of("llama"), amounts([1.0, 2.0, 1.0]));
    assert_eq!(prices.listed("llama"), None, "embeddings are priced by their row alone");
    assert!(load("", &[]).unwrap().budget.prices.of("llama").is_none());
}

#[test]
fn what_limits_cannot_be_is_said() {
    let file = "[[price]]\nmodel = \"[\"\ninput = -1\noutput = 1\n[[price]]\nmodel = \"m\"\ninput = 1\n\
                [budget]\nday_cost = -5\nday_tokens = \"many\"\ncurrency = \"two words\"\n\
                [server]\ntrusted_proxies = \"10.0.0.0/8, proxy.example\"\n[limits]\nreports_burst = 0\n";
    let said = mistakes(file, &[]);
    for words in [
        "`price[0]` (file) model: `[` is not a glob",
        "`price[0]` (file): has a price that is no amount",
        "`price[1]` (file): missing field `output`",
        "`budget.currency`: has to be one word",
        "`budget.day_tokens` (file): `many` is not a number of tokens",
        "`budget.day_cost`: -5 is outside",
        "`limits.reports_burst` (file): 0 is outside 1",
        "`server.trusted_proxies`: `proxy.example` is neither an address nor a CIDR",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.starts_with("the configuration has 8 mistakes"), "{said}");
    let unpriced = [("LITELLM_URL", "http://m"), ("LITELLM_MODEL", "m"), ("REGREEN_BUDGET_DAY_COST", "5")];
    assert!(mistakes("", &unpriced).contains("the model `m` has no price"), "{}", mistakes("", &unpriced));
    let priced =
        [unpriced.to_vec(), vec![("REGREEN_MODEL_INPUT_PRICE", "1"), ("REGREEN_MODEL_OUTPUT_PRICE", "2")]]
            .concat();
    assert_eq!(load("", &priced).unwrap().budget.day.cost, Money::of(5.0));
}

#[test]
fn tokens_of_people_go_nowhere_in_the_clear() {
    let table = |transport: &str, place: &str| {
        format!("[[mcp]]\nname = \"x\"\ntransport = \"{transport}\"\n{place}\npassthrough = true\n")
    };
    for (transport, place) in [
        ("streamable-http", "url = \"https://mcp.example.com/mcp\""),
        ("sse", "url = \"http://127.0.0.1:8080/sse\""),
        ("streamable-http", "url = \"http://[::1]:8080/mcp\""),
    ] {
        assert!(load(&table(transport, place), &[]).unwrap().mcp[0].passthrough, "{place}");
    }
    for (transport, place) in [
        ("streamable-http", "url = \"http://mcp.example.com/mcp\""),
        ("streamable-http", "url = \"http://localhost.example.com/mcp\""),
        ("websocket", "url = \"wss://mcp.example.com/mcp\""),
        ("stdio", "command = [\"mcp\"]"),
    ] {
        let problem = mistakes(&table(transport, place), &[]);
        assert!(problem.contains("`mcp` server `x` passthrough"), "{problem}");
    }
}

#[test]
fn a_policy_that_cannot_be_read_and_a_secret_that_is_too_short_are_mistakes() {
    let env = [("REGREEN_POLICY_FILE", "/nowhere/policy.toml"), ("REGREEN_CHAT_LINK_SECRET", "short")];
    let problem = mistakes("", &env);
    assert!(problem.contains("`/nowhere/policy.toml` cannot be read"), "{problem}");
    assert!(problem.contains("`chat.link_secret`: is shorter than 16 bytes"), "{problem}");
}

#[test]
fn an_old_name_of_a_setting_counts_and_not_beside_the_new_one() {
    let config = load("[auth]\nways = \"keys\"", &[]).unwrap();
    assert!(config.auth.keys);
    let both = mistakes("[auth]\nways = \"keys\"\nmethods = \"oidc\"", &[]);
    assert!(both.contains("`auth.ways` (file): is the old name of `auth.methods`"), "{both}");
}

#[test]
fn four_eyes_need_people_who_are_told_apart() {
    let env = [("REGREEN_CHAT_FOUR_EYES", "yes")];
    let problem = mistakes("", &env);
    assert!(problem.contains("`chat.four_eyes`: needs `auth.methods`"), "{problem}");
    let env = [("REGREEN_CHAT_FOUR_EYES", "yes"), ("REGREEN_AUTH", "keys")];
    assert!(load("", &env).unwrap().chat.four_eyes);
    assert!(!load("", &[]).unwrap().chat.four_eyes);
}

#[test]
fn a_reference_that_leads_to_nothing_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, " \n").unwrap();
    let reference = format!("file:{}", file.display());
    let tracker = [("MCP_GITEA_URL", "http://g/mcp"), ("GITEA_OWNER", "o"), ("GITEA_REPO", "r")];
    let with = |more: &[(&'static str, &str)]| {
        let env: Vec<_> = tracker.iter().chain(more).map(|(name, value)| (*name, *value)).collect();
        load("", &env).map_err(|mistakes| mistakes.to_string())
    };
    let empty_file = with(&[("REGREEN_WEBHOOK_SECRET", &reference)]).unwrap_err();
    let said = format!(
        "`tracker.webhook_secret` (REGREEN_WEBHOOK_SECRET): the file `{}` it refers to is empty",
        file.display()
    );
    assert!(empty_file.contains(&said), "{empty_file}");
    let empty_variable = with(&[("REGREEN_WEBHOOK_SECRET", "env:HOOK"), ("HOOK", "")]).unwrap_err();
    assert!(
        empty_variable.contains("the environment variable `HOOK` it refers to is empty"),
        "{empty_variable}"
    );
    let short = with(&[("REGREEN_WEBHOOK_SECRET", "between-us")]).unwrap_err();
    assert!(short.contains("`tracker.webhook_secret`: is shorter than 16 bytes"), "{short}");
    std::fs::write(&file, "between-the-two-of-us\n").unwrap();
    assert!(
        with(&[("REGREEN_WEBHOOK_SECRET", &reference)]).unwrap().tracker.unwrap().webhook_secret.is_some()
    );
}

#[test]
fn times_have_their_bounds() {
    let said = mistakes(
        "[queue]\nheartbeat = \"0s\"\nlease = \"50ms\"\n[server]\nwait = \"18446744073709551615\"\n",
        &[],
    );
    for words in [
        "`queue.heartbeat` (file): is shorter than 100ms",
        "`queue.lease` (file): is shorter than 100ms",
        "`server.wait` (file): is longer than 100 years",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let table = "[[mcp]]\nname = \"x\"\ntransport = \"sse\"\nurl = \"http://x/\"\ncall_timeout = \"18446744073709551615s\"\n";
    assert!(
        mistakes(table, &[]).contains("call_timeout: is longer than 100 years"),
        "{}",
        mistakes(table, &[])
    );
    let table = "[[notify]]\nname = \"x\"\nchannel = \"slack\"\nurl = \"http://x/\"\nevery = \"18446744073709551615s\"\n";
    assert!(mistakes(table, &[]).contains("`x` every: is longer than 100 years"), "{}", mistakes(table, &[]));
    let shortest = load("[queue]\nheartbeat = \"100ms\"\nlease = \"200ms\"\n", &[]).unwrap().queue;
    assert_eq!(shortest.lease, shortest.heartbeat * 2);
    assert!(mistakes("[queue]\nheartbeat = \"100ms\"\nlease = \"150ms\"\n", &[]).contains("at least twice"));
}

#[test]
fn every_change_of_what_is_configured_changes_the_digest() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (policy, prompts) = (path("policy.toml"), path("prompts"));
    std::fs::create_dir_all(folder.path().join("prompts/..data")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("policy.toml", "[[rule]]\ndecision = \"deny\"\n");
    write("prompts/issue.md", "One");
    let digest = |file: &str| {
        let env =
            [("REGREEN_POLICY_FILE", &*policy), ("REGREEN_PROMPTS", &*prompts), ("REGREEN_PAGES", &*prompts)];
        load(file, &env).unwrap().digest
    };
    let mut seen = vec![digest("")];
    let mut changed = |digest: String| {
        assert!(!seen.contains(&digest), "it is the digest of something else");
        seen.push(digest);
    };
    changed(digest("[server]\nport = 1\n"));
    let notify = "[[notify]]\nname = \"a\"\nchannel = \"slack\"\nurl = \"https://hooks.example/";
    changed(digest(&format!("{notify}one\"\n")));
    changed(digest(&format!("{notify}two\"\n")));
    changed(digest("[[price]]\nmodel = \"m\"\ninput = 1\noutput = 2\n"));
    changed(digest("[[mcp]]\nname = \"x\"\ntransport = \"sse\"\nurl = \"http://x/\"\n"));
    write("policy.toml", "[[rule]]\ndecision = \"approve\"\n");
    changed(digest(""));
    write("prompts/issue.md", "Two");
    changed(digest(""));
    write("prompts/brief.md", "Two");
    changed(digest(""));
    assert_eq!(seen.last(), Some(&digest("")), "the same is the same");
}

#[test]
fn the_documented_table_of_settings_is_this_one() {
    let page = include_str!("../../docs/settings.md");
    assert!(
        page.contains(&markdown_table()),
        "print it with `regreen check-config --table` and paste it into docs/settings.md"
    );
}
