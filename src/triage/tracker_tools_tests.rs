//! Tests of the arguments sent to tracker tools.

use super::*;

fn tracker() -> Tracker {
    Tracker {
        server: "git".into(),
        owner: "o/sub".into(),
        repo: "r".into(),
        kind: None,
        url: None,
        create_tool: None,
        list_tool: None,
        comment_tool: None,
        create_arguments: Map::new(),
        webhook_secret: None,
    }
}

/// Returns a schema of string arguments and the properties in `more`.
fn schema(names: &[&str], required: &[&str], more: Value) -> Value {
    let mut properties: Map<String, Value> =
        names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
    properties.extend(more.as_object().cloned().unwrap_or_default());
    json!({"type": "object", "properties": properties, "required": required})
}

fn fits(operation: Operation, schema: &Value) -> Vec<String> {
    misfits(&tracker(), operation, schema)
}

#[test]
fn a_tool_fits_when_all_that_is_needed_can_be_said_and_nothing_else_has_to_be() {
    assert!(fits(Operation::Create, &json!({"type": "object"})).is_empty());
    let good = schema(&["org", "repo", "title", "description"], &["org", "title"], json!({}));
    assert!(fits(Operation::Create, &good).is_empty());
    let bad = schema(&["owner", "repo", "title", "text"], &["text"], json!({}));
    assert_eq!(
        fits(Operation::Create, &bad),
        ["it takes no `body` or `description` or `content`", "it wants `text`, which nobody gives it"]
    );
    let given = Tracker {
        create_arguments: json!({"text": "t", "label": "ci"}).as_object().unwrap().clone(),
        ..tracker()
    };
    let labelled = schema(&["owner", "repo", "title", "body", "text"], &["text"], json!({}));
    assert_eq!(
        misfits(&given, Operation::Create, &labelled),
        ["it takes no `label` (`tracker.create_arguments`)"]
    );
    let listed =
        schema(&["owner", "repo", "title", "body"], &[], json!({"label": {"enum": ["bug"]}, "text": {}}));
    assert_eq!(misfits(&given, Operation::Create, &listed), ["its `label` cannot be \"ci\" but \"bug\""]);
    assert!(fits(Operation::List, &schema(&["owner", "repo", "state"], &["state"], json!({}))).is_empty());
}

#[test]
fn tools_that_do_several_things_are_told_which() {
    let write = schema(
        &["owner", "repo", "title", "body"],
        &["method", "owner", "repo"],
        json!({"method": {"enum": ["create", "update"]}, "show_ui": {"type": "boolean"}, "issue_number": {"type": "number"}}),
    );
    let wanted: &[Argument<'_>] = &[(TITLE, json!("t")), (BODY, json!("b"))];
    assert_eq!(
        arguments(&tracker(), Operation::Create, &write, wanted),
        json!({"method": "create", "show_ui": false, "owner": "o/sub", "repo": "r", "title": "t", "body": "b"})
    );
    assert_eq!(
        fits(Operation::Comment, &write),
        ["its `method` has no `add_comment` but \"create\", \"update\""],
        "a comment must not become an issue"
    );
    let gitea = schema(
        &["owner", "repo", "title", "body"],
        &["method", "owner", "repo"],
        json!({"method": {"enum": ["create", "update", "add_comment"]}, "index": {"type": "number"}}),
    );
    let comment: &[Argument<'_>] = &[(ISSUE, json!(4)), (COMMENT, json!("again"))];
    assert_eq!(
        arguments(&tracker(), Operation::Comment, &gitea, comment),
        json!({"method": "add_comment", "owner": "o/sub", "repo": "r", "index": 4, "body": "again"})
    );
}

#[test]
fn what_is_given_besides_moves_no_issue() {
    let given = json!({"owner": "evil", "title": "x", "labels": ["ci"]}).as_object().unwrap().clone();
    let tracker = Tracker { create_arguments: given, ..tracker() };
    let schema = schema(&["owner", "repo", "title", "body"], &[], json!({"labels": {"type": "array"}}));
    let wanted: &[Argument<'_>] = &[(TITLE, json!("t")), (BODY, json!("b"))];
    let sent = arguments(&tracker, Operation::Create, &schema, wanted);
    assert_eq!(sent, json!({"owner": "o/sub", "repo": "r", "title": "t", "body": "b", "labels": ["ci"]}));
}

#[test]
fn gitlabs_servers_are_given_the_project() {
    let note = schema(
        &["project_id", "body", "issue_iid"],
        &["project_id"],
        json!({"project_id": {"type": "string", "description": "Project ID or complete URL-encoded path"}}),
    );
    let wanted: &[Argument<'_>] = &[(ISSUE, json!(4)), (COMMENT, json!("again"))];
    assert_eq!(
        arguments(&tracker(), Operation::Comment, &note, wanted),
        json!({"project_id": "o%2Fsub%2Fr", "issue_iid": "4", "body": "again"})
    );
    let list = schema(
        &["project_id"],
        &[],
        json!({"state": {"enum": ["opened", "closed", "all"]}, "scope": {"enum": ["created_by_me", "all"]},
            "order_by": {"enum": ["created_at", "updated_at"]}, "sort": {"enum": ["asc", "desc"]}}),
    );
    let sent = arguments(&tracker(), Operation::List, &list, &[]);
    let wanted = json!({"project_id": "o/sub/r", "scope": "all", "order_by": "created_at", "sort": "desc"});
    assert_eq!((sent, states(&list)), (wanted, vec![Some(("state", json!("all")))]));
    assert_eq!(
        address(&tracker(), TrackerKind::Gitlab, 4).as_deref(),
        Some("https://gitlab.com/o/sub/r/-/issues/4")
    );
}

#[test]
fn open_and_closed_issues_are_asked_for_as_the_schema_says_it() {
    let of = |state: Value, required: &[&str]| states(&schema(&[], required, json!({"state": state})));
    let both = "by default both open and closed issues are returned when not provided";
    let upper = json!({"enum": ["OPEN", "CLOSED"], "description": both});
    assert_eq!(of(upper.clone(), &[]), [None]);
    let each = vec![Some(("state", json!("OPEN"))), Some(("state", json!("CLOSED")))];
    assert_eq!(of(upper, &["state"]), each, "it has to be given");
    assert_eq!(of(json!({"enum": ["OPEN", "CLOSED"], "description": "open by default"}), &[]), each);
    assert_eq!(of(json!({"enum": ["open", "ALL"]}), &[]), [Some(("state", json!("ALL")))]);
    assert_eq!(of(json!({"type": "string", "default": "open"}), &[]), [Some(("state", json!("all")))]);
    assert_eq!(of(json!({"enum": ["todo", "done"]}), &[]), [None]);
    let several = json!({"type": "array", "items": {"enum": ["OPEN", "CLOSED"]}});
    assert_eq!(of(several, &[]), [Some(("state", json!(["OPEN", "CLOSED"])))]);
    assert_eq!(states(&schema(&["owner"], &[], json!({}))), [None]);
}

#[test]
fn the_kind_says_which_tools_are_looked_for_and_where_issues_are_read() {
    let names = |kind| Operation::Comment.candidates(&Tracker { kind, ..tracker() }).join(" ");
    assert_eq!(names(Some(TrackerKind::Github)), "add_issue_comment");
    assert!(names(None).starts_with("add_comment ") && names(None).contains(" create_note"));
    let set = Tracker { comment_tool: Some("say".into()), ..tracker() };
    assert_eq!(Operation::Comment.candidates(&set), ["say"]);
    let own = Tracker { url: Some("https://ghe.example".into()), ..tracker() };
    let read = |tracker: &Tracker, kind| address(tracker, kind, 7);
    assert_eq!(read(&own, TrackerKind::Github).as_deref(), Some("https://ghe.example/o/sub/r/issues/7"));
    assert_eq!(read(&tracker(), TrackerKind::Github).as_deref(), Some("https://github.com/o/sub/r/issues/7"));
    assert_eq!(read(&tracker(), TrackerKind::Gitea), None);
}
