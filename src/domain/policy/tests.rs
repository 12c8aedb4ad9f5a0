//! Tests of the policy's decisions.

use super::*;
use crate::domain::AuthMethod;
use regex::Regex;
use serde_json::json;

fn patterns(texts: &[&str]) -> Option<Patterns> {
    Some(Patterns::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap())
}

pub(super) fn rule(number: usize, tools: &[&str], decision: Decision) -> Rule {
    Rule {
        number,
        roles: None,
        agents: None,
        places: None,
        servers: None,
        tools: patterns(tools),
        access: None,
        pins: Vec::new(),
        checks: Vec::new(),
        decision,
        reason: None,
    }
}

pub(super) fn way(name: &str) -> Vec<String> {
    name.split('.').map(str::to_owned).collect()
}

pub(super) fn check() -> Check {
    Check { one_of: None, regex: None, min: None, max: None, max_length: None, required: true }
}

fn pinned(pins: &[(&str, Value)]) -> Policy {
    let pins = pins.iter().map(|(name, value)| (way(name), value.clone())).collect();
    Policy::new(vec![Rule { pins, ..rule(1, &["*"], Decision::Allow) }])
}

fn checked(name: &str, check: Check) -> Policy {
    Policy::new(vec![Rule { checks: vec![(way(name), check)], ..rule(1, &["*"], Decision::Allow) }])
}

fn asker(place: Origin) -> CallContext {
    CallContext::supposed(place, Some(Role::Operator), Some("troubleshooter".to_owned()))
}

fn of(tool: &str, access: Access) -> Target<'_> {
    Target::new("s", tool, access, None)
}

fn decided(policy: &Policy, place: Origin, tool: &str, access: Access) -> (Decision, String) {
    let standing = policy.evaluate(&asker(place), &of(tool, access));
    (standing.decision, standing.rule_name())
}

/// Returns the arguments to send, or the reason for a denial.
fn sent(policy: &Policy, schema: &Value, arguments: Value) -> Result<Value, String> {
    let target = Target { schema: Some(schema), ..of("look", Access::Read) };
    match policy.authorize(&asker(Origin::Chat), &target, arguments) {
        AccessDecision::Allowed(permit) => Ok(permit.into_arguments()),
        AccessDecision::NeedsApproval(_) => panic!("nothing here waits"),
        AccessDecision::Denied(denied) => Err(denied.reason),
    }
}

#[test]
fn without_rules_reading_is_allowed_and_the_rest_is_not() {
    let policy = Policy::default();
    let table: Vec<String> = Origin::ALL
        .iter()
        .copied()
        .flat_map(|place| {
            [
                ("look", Access::Read),
                ("scale", Access::Write),
                ("pods_exec", Access::Read),
                ("pods_exec", Access::Write),
            ]
            .map(|(tool, access)| {
                let (decision, behind) = decided(&policy, place, tool, access);
                format!("{} {tool} {access:?}: {} ({behind})", place.as_str(), decision.as_str())
            })
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"), @r"
    triage look Read: allow (default)
    triage scale Write: deny (default)
    triage pods_exec Read: deny (default)
    triage pods_exec Write: deny (default)
    chat look Read: allow (default)
    chat scale Write: approve (default)
    chat pods_exec Read: deny (default)
    chat pods_exec Write: deny (default)
    page look Read: allow (default)
    page scale Write: deny (default)
    page pods_exec Read: deny (default)
    page pods_exec Write: deny (default)
    mcp look Read: allow (default)
    mcp scale Write: allow (default)
    mcp pods_exec Read: allow (default)
    mcp pods_exec Write: allow (default)
    service look Read: allow (default)
    service scale Write: allow (default)
    service pods_exec Read: allow (default)
    service pods_exec Write: allow (default)
    ");
}

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = Policy::new(vec![
        Rule { servers: patterns(&["other"]), ..rule(1, &["*"], Decision::Deny) },
        Rule { access: Some(Access::Write), ..rule(2, &["scale"], Decision::Allow) },
        rule(3, &["sc*", "look"], Decision::Deny),
    ]);
    assert_eq!(
        decided(&policy, Origin::Triage, "scale", Access::Write),
        (Decision::Allow, "rule 2".to_owned())
    );
    assert_eq!(
        decided(&policy, Origin::Triage, "SCALE", Access::Read),
        (Decision::Deny, "rule 3".to_owned())
    );
    assert_eq!(decided(&policy, Origin::Chat, "look", Access::Read).0, Decision::Deny);
    assert_eq!(decided(&policy, Origin::Chat, "logs", Access::Read), (Decision::Allow, "default".to_owned()));
}

#[test]
fn what_is_dangerous_needs_a_rule_that_names_it() {
    for broad in ["*", "{*,pods_delete}", "pods_*", "pods_?xec", "p*c", "[p]ods_e*"] {
        let policy = Policy::new(vec![rule(1, &[broad], Decision::Allow)]);
        for access in [Access::Read, Access::Write] {
            assert_eq!(decided(&policy, Origin::Chat, "pods_exec", access).0, Decision::Deny, "{broad}");
        }
    }
    let nameless = Policy::new(vec![Rule { tools: None, ..rule(1, &[], Decision::Approve) }]);
    assert_eq!(
        decided(&nameless, Origin::Chat, "pods_exec", Access::Write),
        (Decision::Deny, "default".to_owned())
    );
    for naming in ["pods_exec", "*_exec", "{look,pods_exec}"] {
        let policy = Policy::new(vec![rule(1, &[naming], Decision::Approve)]);
        assert_eq!(
            decided(&policy, Origin::Chat, "pods_exec", Access::Write).0,
            Decision::Approve,
            "{naming}"
        );
        assert_eq!(
            decided(&policy, Origin::Triage, "pods_exec", Access::Write).0,
            Decision::Deny,
            "nobody is asked"
        );
    }
    // A glob that names one dangerous tool does not cover another one.
    let other = Policy::new(vec![rule(1, &["*", "pods_delete"], Decision::Allow)]);
    assert_eq!(decided(&other, Origin::Chat, "pods_exec", Access::Write).0, Decision::Deny);
}

#[test]
fn roles_and_agents_are_those_of_whoever_asks() {
    let policy = Policy::new(vec![
        Rule {
            roles: Some(vec![Role::Admin]),
            agents: patterns(&["ops-*"]),
            ..rule(1, &["scale"], Decision::Allow)
        },
        Rule { roles: Some(vec![Role::Viewer]), ..rule(2, &["*"], Decision::Deny) },
    ]);
    let decide = |role, agent: &str| {
        let caller = Caller { role, way: AuthMethod::Key, ..Caller::anyone() };
        policy.evaluate(&CallContext::chat(caller, agent), &of("scale", Access::Write)).decision
    };
    assert_eq!(decide(Role::Admin, "ops-helper"), Decision::Allow);
    assert_eq!(decide(Role::Admin, "troubleshooter"), Decision::Approve);
    assert_eq!(decide(Role::Operator, "ops-helper"), Decision::Approve);
    assert_eq!(decide(Role::Viewer, "ops-helper"), Decision::Deny);
    // An investigation has no caller, so rules with roles do not match.
    let target = of("look", Access::Read);
    assert_eq!(policy.evaluate(&CallContext::triage("ci"), &target).rule_name(), "default");
}

#[test]
fn the_services_own_calls_are_pinned_but_forbidden_only_by_name_of_the_place() {
    let schema = json!({"type": "object", "properties": {"owner": {}, "title": {}}});
    let target = Target { schema: Some(&schema), ..of("create_issue", Access::Write) };
    let closed = Policy::new(vec![rule(1, &["*"], Decision::Deny)]);
    assert_eq!(closed.evaluate(&CallContext::service(), &target).decision, Decision::Allow);
    let pins = vec![(way("owner"), json!("platform"))];
    let policy = Policy::new(vec![Rule { pins, ..rule(1, &["create_issue"], Decision::Approve) }]);
    let AccessDecision::Allowed(permit) =
        policy.authorize(&CallContext::service(), &target, json!({"owner": "x", "title": "t"}))
    else {
        panic!("the service asks nobody");
    };
    assert_eq!(permit.arguments(), &json!({"owner": "platform", "title": "t"}));
    let named =
        Policy::new(vec![Rule { places: Some(vec![Origin::Service]), ..rule(1, &["*"], Decision::Deny) }]);
    assert_eq!(named.evaluate(&CallContext::service(), &target).decision, Decision::Deny);
}

#[test]
fn what_is_pinned_is_set_whatever_was_asked_for() {
    let policy = pinned(&[("owner", json!("platform")), ("meta.namespace", json!("ci"))]);
    let schema = json!({"type": "object", "properties": {
        "owner": {"default": "everybody"}, "title": {"type": "string"},
        "meta": {"$ref": "#/$defs/meta"}}, "$defs": {"meta": {"properties": {"namespace": {}, "name": {}}}}});
    let set = json!({"owner": "platform", "meta": {"namespace": "ci"}});
    for asked in [
        json!({}),
        Value::Null,
        json!({"owner": "evil"}),
        json!({"owner": {"platform": 1}, "meta": "x"}),
        json!({"owner": null, "meta": {"namespace": ["ci", "prod"]}}),
        // The JSON parser keeps one of two equal keys, and the pin overwrites it.
        serde_json::from_str(r#"{"owner": "evil", "\u006fwner": "worse"}"#).unwrap(),
    ] {
        assert_eq!(sent(&policy, &schema, asked.clone()), Ok(set.clone()), "{asked}");
    }
    let more = json!({"title": "t", "meta": {"name": "n"}});
    let wanted = json!({"owner": "platform", "title": "t", "meta": {"name": "n", "namespace": "ci"}});
    assert_eq!(sent(&policy, &schema, more), Ok(wanted));
    for (asked, word) in [
        (json!({"Owner": "evil"}), "no argument `Owner`"),
        (json!({"org": "evil"}), "no argument `org`"),
        (json!({"owner\u{200b}": "evil"}), "no argument"),
        (json!({"meta": {"nameSpace": "prod"}}), "no argument `nameSpace`"),
        (json!(["owner"]), "one JSON object"),
        (json!("owner=evil"), "one JSON object"),
    ] {
        let problem = sent(&policy, &schema, asked.clone()).unwrap_err();
        assert!(problem.contains(word), "{asked}: {problem}");
    }
}

#[test]
fn a_pin_that_cannot_hold_closes_the_tool() {
    let policy = pinned(&[("namespace", json!("ci"))]);
    for schema in [
        json!({"type": "object"}),
        json!({"type": "object", "properties": {}}),
        json!({"type": "object", "properties": {"all": {}}, "additionalProperties": true}),
    ] {
        let problem = sent(&policy, &schema, json!({})).unwrap_err();
        assert!(
            problem.contains("`namespace`") && problem.contains("does not say that it takes"),
            "{problem}"
        );
    }
    let branch =
        json!({"type": "object", "anyOf": [{"properties": {"namespace": {}}}, {"properties": {"all": {}}}]});
    assert_eq!(sent(&policy, &branch, json!({})), Ok(json!({"namespace": "ci"})));
}

#[test]
fn other_spellings_are_refused_where_the_schema_says_nothing() {
    let policy = pinned(&[("labels.team-name", json!("ci"))]);
    let schema = json!({"type": "object", "properties": {"labels": {"type": "object"}}});
    for key in ["Team-Name", "team_name", "TEAMNAME", "team-name ", "t\u{200b}eam-name"] {
        let problem = sent(&policy, &schema, json!({"labels": {key: "evil"}})).unwrap_err();
        assert!(problem.contains("another spelling"), "{key}: {problem}");
    }
    // Letters that some languages fold to ASCII letters.
    let kelvin = pinned(&[("labels.kiss", json!("ci"))]);
    assert!(sent(&kelvin, &schema, json!({"labels": {"\u{212a}is\u{17f}": "evil"}})).is_err());
    let other = sent(&policy, &schema, json!({"labels": {"app": "x"}}));
    assert_eq!(other, Ok(json!({"labels": {"app": "x", "team-name": "ci"}})));
}

#[test]
fn what_is_checked_has_to_hold() {
    let schema = json!({"type": "object", "properties": {"x": {}}});
    let text =
        |regex: &str| Check { regex: Some(Regex::new(&format!(r"\A(?:{regex})\z")).unwrap()), ..check() };
    let cases = [
        (
            Check { one_of: Some(vec![json!("ci"), json!(1)]), ..check() },
            vec![json!("ci"), json!(1), json!(["ci", 1])],
            vec![
                json!("CI"),
                json!("1"),
                json!([]),
                json!(["ci", "x"]),
                json!([["ci"]]),
                json!({"ci": 1}),
                Value::Null,
            ],
        ),
        (
            text("ci-[a-z]+|lab"),
            vec![json!("ci-a"), json!("lab"), json!(["lab"])],
            vec![json!("xlab"), json!("lab\n"), json!("ci-a prod"), json!(1), json!([1])],
        ),
        (
            Check { min: Some(1.0), max: Some(1000.0), ..check() },
            vec![json!(1), json!(1000), json!(2.5)],
            vec![json!(0), json!(-1), json!(1001), json!(1e300), json!("5"), json!(u64::MAX), json!([5])],
        ),
        (
            Check { max_length: Some(3), ..check() },
            vec![json!("äöü"), json!([1, 2, 3])],
            vec![json!("abcd"), json!([1, 2, 3, 4]), json!(1), json!({"a": 1})],
        ),
    ];
    for (check, good, bad) in cases {
        let policy = checked("x", check);
        for value in good {
            assert_eq!(sent(&policy, &schema, json!({"x": value})), Ok(json!({"x": value})));
        }
        for value in bad.into_iter().map(|value| json!({"x": value})).chain([json!({}), json!({"X": "ci"})]) {
            let problem = sent(&policy, &schema, value.clone()).expect_err(&value.to_string());
            assert!(problem.contains('`'), "{problem}");
        }
    }
}

#[test]
fn what_is_left_out_is_the_servers_default_or_missing() {
    let most = Check { max: Some(100.0), ..check() };
    let of_default = |default: i32| json!({"type": "object", "properties": {"tail": {"default": default}}});
    let policy = checked("tail", most.clone());
    assert_eq!(sent(&policy, &of_default(50), json!({})), Ok(json!({"tail": 50})), "said, so that it holds");
    assert!(sent(&policy, &of_default(500), json!({})).is_err());
    assert!(sent(&policy, &of_default(500), json!({"tail": null})).is_err());
    let optional = checked("tail", Check { required: false, ..most });
    let plain = json!({"type": "object", "properties": {"name": {}, "tail": {}}});
    assert_eq!(sent(&optional, &plain, json!({})), Ok(json!({})));
    assert!(sent(&optional, &plain, json!({"tail": 101})).is_err());
    let without = json!({"type": "object", "properties": {"name": {}}});
    assert_eq!(sent(&optional, &without, json!({"name": "n"})), Ok(json!({"name": "n"})));
    assert!(sent(&optional, &without, json!({"Tail": 101})).is_err());
}

#[test]
fn a_model_is_offered_what_it_can_choose() {
    let pins = vec![(way("owner"), json!("platform")), (way("meta.namespace"), json!("ci"))];
    let checks = vec![(way("tail"), Check { max: Some(100.0), ..check() })];
    let policy = Policy::new(vec![Rule { pins, checks, ..rule(1, &["*"], Decision::Allow) }]);
    let schema = json!({"type": "object", "required": ["owner", "tail"], "additionalProperties": false, "properties": {
        "owner": {}, "tail": {}, "meta": {"type": "object", "properties": {"namespace": {}, "name": {}}}}});
    let target = Target { schema: Some(&schema), ..of("look", Access::Read) };
    let (offered, words) =
        policy.evaluate(&asker(Origin::Chat), &target).offered(&std::sync::Arc::new(schema));
    let wanted = json!({"type": "object", "required": ["tail"], "properties": {
        "tail": {}, "meta": {"type": "object", "properties": {"name": {}}}}});
    assert_eq!(*offered, wanted);
    assert_eq!(
        words,
        " The policy sets `owner` to \"platform\". The policy sets `meta.namespace` to \"ci\". `tail` has to be at most 100."
    );
}

#[test]
fn an_approval_is_for_the_call_that_was_shown() {
    use crate::domain::{Approval, ApprovalState, call_hash};
    use uuid::Uuid;
    let shown = json!({"name": "a", "n": 1});
    let target = Target { definition: "as it was", ..of("scale", Access::Write) };
    let approval = |state, hash: &str| Approval {
        id: Uuid::nil(),
        conversation_id: Uuid::nil(),
        run: Uuid::nil(),
        asked_by: String::new(),
        server: "s".to_owned(),
        tool: "scale".to_owned(),
        server_tool: "scale".to_owned(),
        arguments: shown.clone(),
        hash: hash.to_owned(),
        definition: Some("as it was".to_owned()),
        state,
        asked_at: chrono::DateTime::UNIX_EPOCH,
        expires_at: chrono::DateTime::UNIX_EPOCH,
        decided_at: None,
        decided_by: None,
        note: None,
        told_in: None,
        evidence: None,
        error: None,
        visible_to: None,
        result_visible_to: None,
    };
    let waiting = || match Policy::default().authorize(&asker(Origin::Chat), &target, shown.clone()) {
        AccessDecision::NeedsApproval(waiting) => waiting,
        other => panic!("{other:?}"),
    };
    let hash = call_hash("s", "scale", &shown);
    let permit = waiting().approved(&approval(ApprovalState::Running, &hash)).unwrap();
    assert_eq!((permit.server(), permit.tool(), permit.arguments()), ("s", "scale", &shown));
    for state in [ApprovalState::Pending, ApprovalState::Approved, ApprovalState::Denied, ApprovalState::Done]
    {
        assert!(waiting().approved(&approval(state, &hash)).is_none(), "{state:?}");
    }
    let other = call_hash("s", "scale", &json!({"name": "a", "n": 2}));
    assert!(waiting().approved(&approval(ApprovalState::Running, &other)).is_none());
    let changed = Target { definition: "as it is", ..target };
    let AccessDecision::NeedsApproval(changed) =
        Policy::default().authorize(&asker(Origin::Chat), &changed, shown.clone())
    else {
        panic!("it waits");
    };
    assert!(changed.approved(&approval(ApprovalState::Running, &hash)).is_none(), "another tool by now");
}

#[test]
fn a_tool_that_changed_since_a_rule_judged_it_is_not_called_without_a_person() {
    let policy =
        Policy::new(vec![Rule { servers: patterns(&["s"]), ..rule(1, &["scale"], Decision::Allow) }]);
    assert!(
        policy.has_rule_for("s", "scale")
            && !policy.has_rule_for("t", "scale")
            && !policy.has_rule_for("s", "look")
    );
    let forbids = Policy::new(vec![rule(1, &["scale"], Decision::Deny)]);
    assert!(!forbids.has_rule_for("s", "scale"), "what is forbidden stays so");
    let target = Target { is_held: true, ..of("scale", Access::Write) };
    let decision = |place: &Origin| policy.evaluate(&asker(*place), &target).decision;
    let decisions: Vec<Decision> = Origin::ALL.iter().map(decision).collect();
    let [triage, chat, page, mcp, service] = decisions[..] else { panic!("{decisions:?}") };
    assert_eq!([triage, chat, page], [Decision::Deny, Decision::Approve, Decision::Deny]);
    assert_eq!([mcp, service], [Decision::Allow, Decision::Allow]);
    assert_eq!(forbids.evaluate(&asker(Origin::Chat), &target).decision, Decision::Deny);
}

mod whatever_is_asked_for {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn key() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => select(vec!["owner", "meta", "namespace", "tail", "title", "free", "team"]).prop_map(str::to_owned),
            1 => select(vec!["Owner", "OWNER", "name_space", "nameSpace", "Tail", "te-am", "owner ", "$ref"]).prop_map(str::to_owned),
            1 => ".{0,8}",
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (0..200).prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((key(), inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

        #[test]
        fn what_is_sent_is_pinned_and_holds(asked in value(), open in any::<bool>()) {
            let pins = vec![
                (way("owner"), json!("platform")), (way("meta.namespace"), json!("ci")), (way("free.team"), json!(["a"])),
            ];
            let checks = vec![(way("tail"), Check { min: Some(1.0), max: Some(100.0), required: false, ..check() })];
            let policy = Policy::new(vec![Rule { pins, checks, ..rule(1, &["*"], Decision::Allow) }]);
            let schema = json!({"type": "object", "additionalProperties": open, "properties": {
                "owner": {"default": "x"}, "title": {}, "tail": {}, "free": {"type": "object"},
                "meta": {"oneOf": [{"properties": {"namespace": {}}}, {"properties": {"name": {}}}]}}});
            if let Ok(sent) = sent(&policy, &schema, asked) {
                prop_assert_eq!(&sent["owner"], "platform");
                prop_assert_eq!(&sent["meta"]["namespace"], "ci");
                prop_assert_eq!(&sent["free"]["team"], &json!(["a"]));
                prop_assert!(sent["tail"].is_null() || (1.0..=100.0).contains(&sent["tail"].as_f64().unwrap()));
                let known = ["owner", "title", "tail", "free", "meta"];
                prop_assert!(sent.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())));
                let inner = |name: &str| sent[name].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
                prop_assert!(inner("meta").iter().all(|key| key == "namespace" || key == "name"));
                let lookalike = |key: &String| key != "team" && key.replace('-', "").eq_ignore_ascii_case("team");
                prop_assert!(!inner("free").iter().any(lookalike));
            }
        }

        #[test]
        fn a_dangerous_tool_stays_shut_under_any_glob_that_does_not_name_it(before in "[a-z]{0,6}", star in "[*?]{1,3}") {
            let glob = format!("{before}{star}");
            let policy = Policy::new(vec![rule(1, &[&glob, "*"], Decision::Allow)]);
            for tool in ["pods_delete", "pods_exec", "run_groovy_script", "resources_create_or_update"] {
                prop_assume!(dangerous::pattern(&glob).is_none());
                prop_assert_eq!(decided(&policy, Origin::Chat, tool, Access::Read).0, Decision::Deny);
                prop_assert_eq!(decided(&policy, Origin::Triage, tool, Access::Read).0, Decision::Deny);
            }
        }
    }
}
