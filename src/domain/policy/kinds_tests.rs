//! Tests for kinds that hold credentials: spellings, and rules that allow access.

use super::*;
use crate::domain::policy::{
    AccessDecision, CallContext, Check, Decision, Origin, Patterns, Policy, ServerContent, Target,
};
use crate::domain::{Access, Role};
use regex::Regex;
use serde_json::json;

#[test]
fn kinds_with_credentials_are_seen_however_they_are_spelled() {
    for kind in [
        "Secret",
        "secret",
        "SECRETS",
        "secrets.v1.",
        "v1/Secret",
        "core/v1/secrets",
        "Secret/db",
        "pods,secrets",
        "Se\u{200b}cret",
        "\u{17f}ecret",
        "Se-cret",
        " Secret ",
        "SealedSecret",
        "es",
        "externalsecrets.external-secrets.io",
        "OAuthAccessToken",
        "oauthclients.oauth.openshift.io",
        "MachineConfig",
        "mc",
        "KubeadmConfig",
        "VaultDynamicSecret",
        "CloudCredential",
    ] {
        for arguments in [
            json!({"kind": kind}),
            json!({"Resource_Type": kind}),
            json!({"resource": {"kind": kind}}),
            json!({"kinds": ["Pod", kind]}),
            json!({"resources": [{"kind": kind, "name": "x"}]}),
        ] {
            assert!(credential(&arguments).is_some(), "{arguments}");
        }
    }
    for arguments in [
        json!({"path": "/api/v1/namespaces/ci/secrets/db"}),
        json!({"command": "kubectl get secrets -o yaml"}),
        json!({"args": ["get", "secret/db"]}),
        json!({"uri": "/apis/oauth.openshift.io/v1/oauthaccesstokens"}),
    ] {
        assert!(credential(&arguments).is_some(), "{arguments}");
    }
}

#[test]
fn other_kinds_and_names_of_resources_are_not() {
    for arguments in [
        json!({"kind": "Pod", "name": "secret-store-0", "namespace": "tokens"}),
        json!({"kind": "ConfigMap", "labelSelector": "app=token"}),
        json!({"apiVersion": "tekton.dev/v1", "kind": "TaskRun"}),
        json!({"kind": "ServiceAccount"}),
        json!({"kind": "Ingress"}),
        json!({"query": "rate(token_requests[5m])"}),
        json!({"resource": {"kind": "Pod", "name": "my-secret"}}),
        json!({"resource": "kind: Pod\nspec: {volumes: [{secret: {secretName: db}}]}\n"}),
        json!({"command": "kubectl get pods"}),
        json!({"kinds": []}),
        json!({}),
    ] {
        assert_eq!(credential(&arguments), None, "{arguments}");
    }
}

fn rule(tools: &[&str], pins: Vec<(Vec<String>, Value)>, checks: Vec<(Vec<String>, Check)>) -> Rule {
    let tools: Vec<String> = tools.iter().map(|tool| (*tool).to_owned()).collect();
    Rule {
        number: 1,
        roles: None,
        agents: None,
        places: None,
        servers: None,
        tools: Some(Patterns::parse(&tools).unwrap()),
        access: None,
        pins,
        checks,
        decision: Decision::Allow,
        reason: None,
    }
}

fn check(one_of: Option<&[&str]>, regex: Option<&str>) -> Check {
    Check {
        one_of: one_of.map(|all| all.iter().map(|one| json!(one)).collect()),
        regex: regex.map(|regex| Regex::new(&format!(r"\A(?:{regex})\z")).unwrap()),
        min: None,
        max: None,
        max_length: None,
        required: true,
    }
}

/// Returns the decision for a call to the cluster's server.
fn ruled(policy: &Policy, place: Origin, kind: &str) -> Result<(), String> {
    let schema =
        json!({"type": "object", "properties": {"apiVersion": {}, "kind": {}, "name": {}, "namespace": {}}});
    let target = Target {
        reads: ServerContent::Cluster,
        ..Target::new("openshift", "resources_get", Access::Read, Some(&schema))
    };
    let asker = match place {
        Origin::Triage => CallContext::triage("ci"),
        Origin::Service => CallContext::service(),
        place => CallContext::supposed(place, Some(Role::Admin), None),
    };
    let arguments = json!({"apiVersion": "v1", "kind": kind, "name": "db", "namespace": "ci"});
    match policy.authorize(&asker, &target, arguments) {
        AccessDecision::Allowed(_) => Ok(()),
        AccessDecision::Denied(denied) => Err(denied.to_string()),
        AccessDecision::NeedsApproval(_) => panic!("it only looks"),
    }
}

#[test]
fn only_a_rule_that_names_the_kind_lets_it_be_read() {
    let kind = || vec!["kind".to_owned()];
    let none = Policy::default();
    for place in [Origin::Triage, Origin::Chat, Origin::Page] {
        assert_eq!(ruled(&none, place, "Pod"), Ok(()), "{place:?}");
        for spelled in ["Secret", "secrets", "SECRET", "Se\u{200b}cret"] {
            assert!(ruled(&none, place, spelled).is_err(), "{place:?} {spelled}");
        }
    }
    assert!(
        ruled(&none, Origin::Chat, "Secret")
            .unwrap_err()
            .contains("`kind` names a kind that holds credentials")
    );
    assert_eq!(
        ruled(&none, Origin::Service, "Secret"),
        Ok(()),
        "the service's own calls are its settings' matter"
    );
    for unnamed in [
        rule(&["*"], Vec::new(), Vec::new()),
        rule(&["resources_get"], Vec::new(), Vec::new()),
        rule(&["resources_get"], Vec::new(), vec![(kind(), check(None, Some(".*")))]),
        rule(&["resources_get"], Vec::new(), vec![(vec!["name".to_owned()], check(Some(&["db"]), None))]),
    ] {
        let policy = Policy::new(vec![unnamed]);
        assert!(ruled(&policy, Origin::Chat, "Secret").is_err(), "{policy:?}");
        assert_eq!(ruled(&policy, Origin::Chat, "Pod"), Ok(()));
    }
    for naming in [
        rule(&["resources_get"], vec![(kind(), json!("Secret"))], Vec::new()),
        rule(&["resources_*"], Vec::new(), vec![(kind(), check(Some(&["Pod", "Secret"]), None))]),
        rule(&["resources_get"], Vec::new(), vec![(kind(), check(None, Some("Pod|Secret")))]),
    ] {
        let policy = Policy::new(vec![naming]);
        assert_eq!(ruled(&policy, Origin::Chat, "Secret"), Ok(()), "{policy:?}");
        assert!(ruled(&policy, Origin::Chat, "OAuthAccessToken").is_err() || policy.rules[0].pins.len() == 1);
    }
}
