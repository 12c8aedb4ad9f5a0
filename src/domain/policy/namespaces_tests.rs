//! Tests that an investigation reads only the namespace of its report, whatever the model requests.

use super::*;
use crate::domain::policy::tests::{rule, way};
use crate::domain::policy::{AccessDecision, CallContext, Decision, Origin, Policy, ServerContent, Target};
use crate::domain::{Access, Caller, Role};
use proptest::prelude::*;
use proptest::sample::select;

/// Read-only tools as described by kubernetes-mcp-server 0.0.67: name, arguments and required arguments.
fn field() -> Vec<(&'static str, Value)> {
    let schema = |properties: &[(&str, &str)], required: &[&str]| {
        let properties: Value =
            properties.iter().map(|(name, kind)| ((*name).to_owned(), json!({"type": kind}))).collect();
        json!({"type": "object", "properties": properties, "required": required})
    };
    let (name, namespace) = (("name", "string"), ("namespace", "string"));
    let (api, kind) = (("apiVersion", "string"), ("kind", "string"));
    let (fields, labels) = (("fieldSelector", "string"), ("labelSelector", "string"));
    vec![
        ("pods_get", schema(&[name, namespace], &["name"])),
        (
            "pods_log",
            schema(
                &[name, namespace, ("container", "string"), ("previous", "boolean"), ("tail", "integer")],
                &["name"],
            ),
        ),
        ("pods_list_in_namespace", schema(&[namespace, fields, labels], &["namespace"])),
        (
            "pods_top",
            schema(&[("all_namespaces", "boolean"), ("label_selector", "string"), name, namespace], &[]),
        ),
        ("events_list", schema(&[fields, namespace], &[])),
        ("helm_list", schema(&[("all_namespaces", "boolean"), namespace], &[])),
        ("resources_get", schema(&[api, kind, name, namespace], &["apiVersion", "kind", "name"])),
        ("resources_list", schema(&[api, kind, namespace, fields, labels], &["apiVersion", "kind"])),
        (
            "tekton_taskrun_logs",
            schema(&[name, namespace, ("step", "string"), ("tail", "integer")], &["name"]),
        ),
        (
            "kiali_get_mesh_traffic_graph",
            schema(&[("namespaces", "string"), ("meshCluster", "string")], &["namespaces"]),
        ),
        ("netobserv_list_flows", schema(&[("filters", "string"), namespace, ("limit", "integer")], &[])),
        ("pods_list", schema(&[fields, labels], &[])),
        ("namespaces_list", schema(&[fields], &[])),
        ("projects_list", schema(&[], &[])),
        ("nodes_log", schema(&[name, ("query", "string")], &["name", "query"])),
        ("nodes_top", schema(&[name], &[])),
        ("configuration_view", schema(&[("minified", "boolean")], &[])),
        ("kiali_get_trace_details", schema(&[("traceId", "string")], &["traceId"])),
    ]
}

fn schema_of(tool: &str) -> Value {
    field().into_iter().find(|(name, _)| *name == tool).map(|(_, schema)| schema).unwrap()
}

fn asked(
    policy: &Policy,
    asker: &CallContext,
    (tool, schema): (&str, &Value),
    arguments: Value,
) -> Result<Value, String> {
    let target =
        Target { reads: ServerContent::Cluster, ..Target::new("cluster", tool, Access::Read, Some(schema)) };
    match policy.authorize(asker, &target, arguments) {
        AccessDecision::Allowed(permit) => Ok(permit.into_arguments()),
        AccessDecision::NeedsApproval(_) => panic!("nothing here waits"),
        AccessDecision::Denied(denied) => Err(denied.reason),
    }
}

/// Returns the arguments sent for a call by an investigation in `team-b`.
fn sent(tool: &str, arguments: Value) -> Result<Value, String> {
    asked(&Policy::default(), &CallContext::triage("team-b"), (tool, &schema_of(tool)), arguments)
}

#[test]
fn a_namespace_is_set_whatever_a_model_sends() {
    assert_eq!(sent("pods_log", json!({"name": "p"})), Ok(json!({"name": "p", "namespace": "team-b"})));
    for other in
        [json!("team-a"), json!(null), json!(["team-a"]), json!({"a": 1}), json!("*"), json!("team-b,team-a")]
    {
        let sent = sent("pods_get", json!({"name": "p", "namespace": other}));
        assert_eq!(sent, Ok(json!({"name": "p", "namespace": "team-b"})));
    }
    for tool in ["pods_top", "helm_list"] {
        let sent = sent(tool, json!({"all_namespaces": true}));
        assert_eq!(sent, Ok(json!({"all_namespaces": false, "namespace": "team-b"})), "{tool}");
    }
    let graph = sent("kiali_get_mesh_traffic_graph", json!({"namespaces": "team-a,team-b"}));
    assert_eq!(graph, Ok(json!({"namespaces": "team-b"})));
    let list = json!({"properties": {"namespaces": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]}}});
    let sent = asked(
        &Policy::default(),
        &CallContext::triage("team-b"),
        ("x", &list),
        json!({"namespaces": ["team-a"]}),
    );
    assert_eq!(sent, Ok(json!({"namespaces": ["team-b"]})));
    let deep = json!({"properties": {"target": {"type": "object", "properties": {"namespace": {"type": "string"}, "pod": {"type": "string"}}}}});
    let sent = asked(
        &Policy::default(),
        &CallContext::triage("team-b"),
        ("x", &deep),
        json!({"target": {"pod": "p", "namespace": "team-a"}}),
    );
    assert_eq!(sent, Ok(json!({"target": {"pod": "p", "namespace": "team-b"}})));
}

#[test]
fn what_takes_no_namespace_is_denied_unless_a_rule_spells_its_name() {
    let none = [
        "pods_list",
        "namespaces_list",
        "projects_list",
        "nodes_log",
        "nodes_top",
        "kiali_get_trace_details",
    ];
    for tool in none {
        let why = sent(tool, json!({"name": "n", "query": "kubelet"})).unwrap_err();
        assert!(why.contains("it takes no namespace"), "{tool}: {why}");
    }
    let schema = schema_of("pods_list");
    let by = |tools: &[&str]| {
        let policy = Policy::new(vec![rule(1, tools, Decision::Allow)]);
        asked(&policy, &CallContext::triage("team-b"), ("pods_list", &schema), json!({})).is_ok()
    };
    assert!(!by(&["*"]) && !by(&["pods_*"]) && !by(&["pods_lis?"]) && by(&["Pods_List"]));
    let chat = Policy::new(vec![Rule {
        places: Some(vec![Origin::Chat]),
        ..rule(1, &["pods_list"], Decision::Allow)
    }]);
    assert!(asked(&chat, &CallContext::triage("team-b"), ("pods_list", &schema), json!({})).is_err());
}

#[test]
fn the_cluster_is_known_by_its_setting_and_by_what_its_tools_take() {
    let (free, bound) =
        (json!({"properties": {"name": {}}}), json!({"properties": {"kubernetes_namespace": {}}}));
    let target = |server, reads| Target { reads, ..Target::new(server, "look", Access::Read, Some(&free)) };
    let policy = Policy::default().with_servers("openshift", Some("gitea"));
    let decided =
        |server, reads| policy.evaluate(&CallContext::triage("ci"), &target(server, reads)).decision;
    assert_eq!(decided("openshift", ServerContent::Elsewhere), Decision::Deny);
    assert_eq!(decided("jenkins", ServerContent::of([&free, &bound].into_iter())), Decision::Deny);
    assert_eq!(decided("jenkins", ServerContent::of([&free].into_iter())), Decision::Allow);
    let service = policy.evaluate(&CallContext::service(), &target("openshift", ServerContent::Cluster));
    assert_eq!(service.decision, Decision::Allow);
    // The tracker stores the diagnoses of all namespaces.
    let issues = |server, tool| {
        let target = Target { tool, ..target(server, ServerContent::Elsewhere) };
        policy.evaluate(&CallContext::triage("ci"), &target).decision
    };
    assert_eq!(issues("gitea", "list_issues"), Decision::Deny);
    assert_eq!(issues("gitea", "searchIssues"), Decision::Deny);
    assert_eq!(issues("gitea", "read_file"), Decision::Allow);
    assert_eq!(issues("github", "list_issues"), Decision::Allow);
}

#[test]
fn kinds_of_the_whole_cluster_and_secrets_are_not_read() {
    let get = |kind: Value| {
        sent("resources_get", json!({"apiVersion": "v1", "kind": kind, "name": "x", "namespace": "team-a"}))
    };
    for kind in ["Pod", "TaskRun", "pods", "ConfigMap", "Ingress", "networkpolicies", "deploy"] {
        assert_eq!(get(json!(kind)).unwrap()["namespace"], "team-b", "{kind}");
    }
    let closed = [
        "Secret",
        "secrets",
        "SECRET",
        "Secret ",
        "pods,secrets",
        "pod/secret",
        "all",
        "Namespace",
        "Node",
        "ClusterRole",
        "PersistentVolume",
        "ClusterTask",
        "Project",
        "SealedSecret",
        "Unheard",
        "",
        "SecretList",
        "ReferenceGrant",
    ];
    for kind in closed {
        assert!(get(json!(kind)).is_err(), "{kind}");
    }
    for kind in [json!(["Pod", "Secret"]), json!([]), json!({"kind": "Pod"}), json!(7), json!([["Pod"]])] {
        assert!(get(kind.clone()).is_err(), "{kind}");
    }
    let of_openshift = json!({"apiVersion": "config.openshift.io/v1", "kind": "Build", "name": "cluster"});
    assert!(sent("resources_get", of_openshift).is_err());
    let tekton =
        json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun", "labelSelector": "tekton.dev/pipeline=x"});
    assert!(sent("resources_list", tekton).is_ok());
}

#[test]
fn what_leads_elsewhere_is_refused_by_its_name_and_by_its_value() {
    for name in [
        "namespaces",
        "Namespace",
        "name_space",
        "NAMESPACE",
        "ns",
        "namespace\u{200b}",
        "all-namespaces",
        "context",
    ] {
        assert!(sent("pods_log", json!({"name": "p", name: "team-a"})).is_err(), "{name}");
    }
    let values = [
        "team-a/p",
        "../team-a/pods/p",
        "p?namespace=team-a",
        "p -n team-a",
        "--namespace=team-a",
        "-A",
        "p%2f..",
        "p; cat /x",
        "p\n--all-namespaces",
        "$(id)",
        "`id`",
        "a|b",
    ];
    for value in values {
        assert!(sent("pods_log", json!({"name": value})).is_err(), "{value}");
        assert!(sent("pods_log", json!({"name": "p", "container": [value]})).is_err(), "{value}");
    }
    assert!(sent("pods_log", json!({"name": {"namespace": "team-a"}})).is_err());
    for selector in
        ["metadata.namespace=team-a", "involvedObject.namespace!=x", "metadata.Name_Space=x", "--all", "a;b"]
    {
        assert!(sent("events_list", json!({"fieldSelector": selector})).is_err(), "{selector}");
    }
    assert!(sent("events_list", json!({"fieldSelector": "involvedObject.name=p,type!=Normal"})).is_ok());
    assert!(sent("netobserv_list_flows", json!({"filters": "SrcK8S_Namespace=team-a"})).is_err());
    assert!(sent("netobserv_list_flows", json!({"filters": null})).is_ok());
    let free =
        json!({"properties": {"namespace": {}, "command": {"type": "string"}}, "required": ["command"]});
    let kubectl = |policy: &Policy| {
        asked(policy, &CallContext::triage("b"), ("kubectl", &free), json!({"command": "get pods -A"}))
    };
    assert!(kubectl(&Policy::default()).unwrap_err().contains("it wants `command`"));
    let spelled = kubectl(&Policy::new(vec![Rule {
        checks: vec![(way("command"), crate::domain::policy::tests::check())],
        ..rule(1, &["kubectl"], Decision::Allow)
    }]));
    assert_eq!(spelled, Ok(json!({"command": "get pods -A", "namespace": "b"})));
    let listed =
        json!({"properties": {"namespace": {}, "pods": {"type": "array", "items": {"type": "object"}}}});
    let pods = json!({"pods": [{"namespace": "a"}]});
    assert!(asked(&Policy::default(), &CallContext::triage("b"), ("x", &listed), pods).is_err());
}

#[test]
fn a_version_is_one_of_an_api_and_no_way() {
    let ask = |version: &str| {
        let given = json!({"apiVersion": version, "kind": "Pod", "name": "x", "namespace": "team-a"});
        sent("resources_get", given)
    };
    for version in
        ["", "v1", "apps/v1", "tekton.dev/v1beta1", "argoproj.io/v1alpha1", "metrics.k8s.io/v1beta1"]
    {
        assert!(ask(version).is_ok(), "{version}");
    }
    for way in [
        "team-a/p",
        "team-a/",
        "/v1",
        "team-a/v",
        "team-a/vault",
        "apis/apps/v1",
        "../v1",
        "v1/namespaces",
        "-A",
        "-n/v1",
    ] {
        assert!(ask(way).is_err(), "{way}");
    }
}

#[test]
fn a_rule_narrows_further_and_leads_out_only_where_it_spells_the_tools_name() {
    let schema = schema_of("pods_log");
    let ask = |rule: Rule, namespace: &str| {
        asked(
            &Policy::new(vec![rule]),
            &CallContext::triage(namespace),
            ("pods_log", &schema),
            json!({"name": "p", "namespace": "ci-2"}),
        )
    };
    let regex = regex::Regex::new("^(?:ci(-.+)?)$").ok();
    let checked =
        || crate::domain::policy::Check { regex: regex.clone(), ..crate::domain::policy::tests::check() };
    let readme =
        || Rule { checks: vec![(way("namespace"), checked())], ..rule(1, &["pods_*"], Decision::Allow) };
    assert_eq!(ask(readme(), "ci-1"), Ok(json!({"name": "p", "namespace": "ci-1"})));
    assert!(ask(readme(), "prod").unwrap_err().contains("has to be"));
    let pins = |tools: &[&str]| Rule {
        pins: vec![(way("namespace"), json!("shared"))],
        ..rule(1, tools, Decision::Allow)
    };
    assert!(ask(pins(&["pods_*"]), "ci-1").unwrap_err().contains("another namespace"));
    assert_eq!(ask(pins(&["pods_*"]), "shared").unwrap()["namespace"], "shared");
    assert_eq!(ask(pins(&["pods_log"]), "ci-1").unwrap()["namespace"], "shared");
}

#[test]
fn models_are_offered_what_is_left_and_told_what_holds() {
    let schema = std::sync::Arc::new(schema_of("pods_top"));
    let target =
        Target { reads: ServerContent::Cluster, ..Target::new("c", "pods_top", Access::Read, Some(&schema)) };
    let policy = Policy::default();
    let asker = CallContext::triage("team-b");
    let (offered, words) = policy.evaluate(&asker, &target).offered(&schema);
    let names: Vec<&str> = offered["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["label_selector", "name"]);
    assert!(words.contains("reads the namespace `team-b` alone"), "{words}");
}

#[test]
fn whoever_is_bound_to_namespaces_reads_those_in_chat_and_on_pages_too() {
    let caller = |namespaces: &[&str]| Caller {
        role: Role::Operator,
        namespaces: Some(namespaces.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().into()),
        ..Caller::anyone()
    };
    let schema = schema_of("pods_log");
    let ask = |asker: &CallContext, namespace: Value| {
        asked(&Policy::default(), asker, ("pods_log", &schema), json!({"name": "p", "namespace": namespace}))
    };
    for asker in [CallContext::chat(caller(&["b"]), "a"), CallContext::page(caller(&["b"]))] {
        assert_eq!(ask(&asker, json!("a")).unwrap()["namespace"], "b");
    }
    let two = CallContext::chat(caller(&["b", "c"]), "a");
    assert_eq!(ask(&two, json!("c")).unwrap()["namespace"], "c");
    for other in [json!("a"), json!(null), json!(["b", "a"]), json!("b,a")] {
        assert!(ask(&two, other.clone()).unwrap_err().contains("`b` or `c`"), "{other}");
    }
    assert_eq!(ask(&CallContext::page(Caller::anyone()), json!("a")).unwrap()["namespace"], "a");
}

fn key() -> impl Strategy<Value = String> {
    let known = [
        "namespace",
        "name",
        "all_namespaces",
        "kind",
        "apiVersion",
        "fieldSelector",
        "filters",
        "namespaces",
        "container",
    ];
    let spelled = select(known.to_vec());
    prop_oneof![
        6 => spelled.clone().prop_map(str::to_owned),
        1 => spelled.clone().prop_map(str::to_uppercase),
        1 => (spelled, select(vec!["_", "-", " ", "\u{200b}", "s", "[]", "."])).prop_map(|(name, more)| format!("{name}{more}")),
        1 => "[a-zA-Z_.-]{1,12}",
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let texts = [
        "team-a",
        "team-b",
        "*",
        "",
        "team-a/p",
        "-A",
        "Pod",
        "Secret",
        "Node",
        "v1",
        "metadata.namespace=team-a",
    ];
    let leaf = prop_oneof![
        4 => select(texts.to_vec()).prop_map(Value::from),
        1 => select(vec![json!(null), json!(true), json!(false), json!(7)]),
        1 => "[ -~]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..3)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_of_a_tool_of_the_field_stays_in_the_namespace(
        at in 0..18_usize,
        given in prop::collection::vec((key(), value()), 0..6),
    ) {
        let (tool, schema) = field().swap_remove(at);
        let Ok(sent) = sent(tool, Value::Object(given.into_iter().collect())) else { return Ok(()) };
        let sent = sent.as_object().unwrap();
        let known = schema["properties"].as_object().unwrap();
        prop_assert!(sent.keys().all(|key| known.contains_key(key)), "{sent:?}");
        let namespace = sent.get("namespace").or_else(|| sent.get("namespaces"));
        prop_assert_eq!(namespace, Some(&json!("team-b")), "{}", tool);
        prop_assert!(sent.get("all_namespaces").is_none_or(|all| *all == json!(false)), "{sent:?}");
        prop_assert!(!sent.contains_key("filters") && !sent.contains_key("meshCluster"), "{sent:?}");
        let kind = sent.get("kind").filter(|kind| !kind.is_null()).map(Value::to_string);
        prop_assert!(kind.is_none_or(|kind| kind == "\"Pod\"" || kind.starts_with("[\"Pod\"")), "{sent:?}");
        let rest = sent.iter().filter(|(key, _)| !key.starts_with("namespace"));
        for (key, value) in rest {
            let text = value.to_string();
            // A label may contain `team-a/p`; no server interprets a label as a path.
            let is_way = text.contains("team-a/") && !key.ends_with("elector");
            prop_assert!(!is_way && !text.contains("metadata.namespace") && !text.contains("\"-"), "{key}: {text}");
        }
    }
}
