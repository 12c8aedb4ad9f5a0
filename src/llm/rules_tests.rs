//! The analyst on small histories.

use super::*;
use crate::domain::{Access, Message, ToolSpec};
use crate::evidence::signature::Signature;

fn rules() -> Rules {
    let signature = |id: &str, pattern: &str, title: &str, priority| Signature {
        id: id.into(),
        pattern: pattern.into(),
        class: FailureClass::Infrastructure,
        title: title.into(),
        cause: "cause".into(),
        next_steps: vec!["look at {host}".into()],
        priority,
        runbook: "book.md".into(),
    };
    let set = SignatureSet::compile(vec![
        signature("exit", "exit code (?P<code>\\d+)", "Step ended with {code}", 1),
        signature("dns", "lookup (?P<host>\\S+): no such host", "{host} has no address", 60),
    ]);
    Rules::new(Arc::new(Signatures::new(set.unwrap())), BlockingPool::default())
}

fn request(messages: Vec<Message>, tools: &[&str]) -> Request {
    let spec = |name: &&str| ToolSpec {
        name: (*name).to_owned(),
        description: String::new(),
        input_schema: Arc::default(),
        access: Access::Read,
    };
    Request { messages, tools: tools.iter().map(spec).collect(), ..Request::default() }
}

const ALL: &[&str] = &["search_evidence", "read_evidence", "submit_diagnosis"];

fn brief() -> Message {
    Message::User { text: "[E1] log of container build, 900 lines\n<<data x\n880: step 3\ndata x>>\n".into() }
}

fn answered(call: &ToolCall, text: &str) -> [Message; 2] {
    [
        Message::Assistant { text: String::new(), tool_calls: vec![call.clone()] },
        Message::Tool { call_id: call.id.clone(), name: call.name.clone(), text: text.into() },
    ]
}

#[tokio::test]
async fn it_reads_around_what_is_recognised_and_submits() {
    let rules = rules();
    let mut history = vec![Message::User {
        text: "[E1] log of container build, 900 lines\n880: step 3\n\nE1:500: dial: lookup mirror.local: no such host\nE1:899: exit code 2\n".into(),
    }];
    let first = rules.complete(&request(history.clone(), ALL)).await.unwrap().tool_calls;
    assert_eq!(first[0].name, "read_evidence");
    assert!(first[0].arguments.contains("\"first_line\":495"), "{}", first[0].arguments);
    history.extend(answered(&first[0], "[E1] log, lines 495 to 510 of 900\n501: giving up\n"));
    let second = rules.complete(&request(history, ALL)).await.unwrap().tool_calls;
    let diagnosis: Value = serde_json::from_str(&second[0].arguments).unwrap();
    assert_eq!(diagnosis["title"], "mirror.local has no address");
    assert_eq!(diagnosis["claims"][0]["first_line"], 500);
    assert_eq!(diagnosis["next_steps"][0], "look at mirror.local");
}

#[tokio::test]
async fn what_no_runbook_knows_is_searched_for_in_words() {
    let calls = rules().complete(&request(vec![brief()], ALL)).await.unwrap().tool_calls;
    assert!(calls.len() == 1 && calls[0].name == "search_evidence", "{calls:?}");
    let mut history = vec![brief()];
    history.extend(answered(&calls[0], "[E1] log: 1 of 900 lines match\nE1:700: fatal: the moon is full\n"));
    let calls = rules().complete(&request(history, ALL)).await.unwrap().tool_calls;
    assert_eq!(calls[0].name, "read_evidence");
}

#[tokio::test]
async fn on_the_last_turn_it_submits_what_it_has() {
    let calls = rules().complete(&request(vec![brief()], &["submit_diagnosis"])).await.unwrap().tool_calls;
    let diagnosis: Value = serde_json::from_str(&calls[0].arguments).unwrap();
    assert_eq!(
        (diagnosis["class"].as_str(), diagnosis["confidence"].as_str()),
        (Some("unknown"), Some("low"))
    );
    assert_eq!(diagnosis["claims"][0]["first_line"], 880, "it cites what it has seen");
}
