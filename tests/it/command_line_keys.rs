//! `regreen token` says which database it works on, and ids that are none are refused in words.

use super::command_line::{regreen, text};
use crate::support::fresh_database;
use std::os::unix::fs::PermissionsExt as _;

const CREATE: [&str; 5] = ["token", "create", "--role", "reporter", "--name"];

#[test]
fn a_key_in_a_new_private_database_comes_with_a_warning_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let data = folder.path().to_str().unwrap();
    let create = |name| regreen(&[&CREATE[..], &[name]].concat(), &[("REGREEN_DATA_DIR", data)]);
    let first = create("one");
    assert!(first.status.success(), "{}", text(&first));
    let key = String::from_utf8_lossy(&first.stdout);
    assert!(key.starts_with("rgn_") && key.lines().count() == 1, "the key stands alone: {key}");
    let place = format!("It is stored in the private database in {data}/postgres.");
    let warning = "Warning: that database was not there and was made just now.";
    assert!(text(&first).contains(&place) && text(&first).contains(warning), "{}", text(&first));
    let second = text(&create("two"));
    assert!(second.contains(&place) && !second.contains("Warning: that database"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_configured_database_name_it_without_its_password() {
    let database = fresh_database().await;
    let mut secret = reqwest::Url::parse(&database).unwrap();
    secret.set_password(Some("hunter2hunter2")).unwrap();
    let name = secret.path().trim_start_matches('/').to_owned();
    tokio::task::spawn_blocking(move || {
        let run = |arguments: &[&str]| regreen(arguments, &[("DATABASE_URL", secret.as_str())]);
        let empty = run(&["token", "list"]);
        let said = text(&empty);
        assert!(empty.status.success() && empty.stdout.is_empty(), "{said}");
        assert!(said.contains(&format!("There is no key yet in the database `{name}` at ")), "{said}");
        let made = text(&run(&[&CREATE[..], &["one"]].concat()));
        assert!(made.contains(&format!("It is stored in the database `{name}` at ")), "{made}");
        assert!(!made.contains("hunter2") && !made.contains("Warning"), "{made}");
        let list = run(&["token", "list"]);
        assert!(text(&list).contains("one ") && list.stderr.is_empty(), "{}", text(&list));
        let unknown = run(&["token", "revoke", "two"]);
        assert_eq!(unknown.status.code(), Some(1));
        assert!(
            text(&unknown).contains(&format!("no key `two` in the database `{name}`")),
            "{}",
            text(&unknown)
        );
        let runbook = run(&["runbook", "draft", "x"]);
        assert!(
            text(&runbook).contains("neither an incident's id nor the number of an issue"),
            "{}",
            text(&runbook)
        );
    })
    .await
    .unwrap();
}

#[test]
fn an_id_that_is_none_is_refused_in_words() {
    let refused = regreen(&["replay", "latest"], &[]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused);
    assert!(
        said.contains("invalid value 'latest'") && said.contains("it is no id: one looks like"),
        "{said}"
    );
    let role = regreen(&["token", "create", "--role", "root", "--name", "x"], &[]);
    assert!(text(&role).contains("[possible values: reporter, viewer, operator, admin]"), "{}", text(&role));
}
