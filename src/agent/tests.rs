//! Tests of the loop with a scripted model: every stop reason, every failure of a call.

use super::{Agent, Outcome, Tool, ToolAnswer, Workspace};
use crate::audit::Recorder;
use crate::blocking::BlockingPool;
use crate::domain::{Access, Actor, Evidence, Message, RunLimits, StopReason, ToolCall, ToolSpec, Usage};
use crate::evidence::redact::Redactor;
use crate::llm::{Completion, Model, ModelError, Request};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Scripted {
    replies: Mutex<VecDeque<Result<Completion, ModelError>>>,
    requests: Mutex<Vec<Request>>,
}

#[async_trait]
impl Model for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn complete(&self, request: &Request) -> Result<Completion, ModelError> {
        self.requests.lock().unwrap().push(request.clone());
        self.replies.lock().unwrap().pop_front().unwrap_or_else(|| Ok(calls(&[("look", "{\"at\": 0}")])))
    }
}

fn calls(wanted: &[(&str, &str)]) -> Completion {
    let call = |(index, (name, arguments)): (usize, &(&str, &str))| ToolCall {
        id: format!("c{index}"),
        name: (*name).to_owned(),
        arguments: (*arguments).to_owned(),
    };
    let usage = Usage { input_tokens: 10, output_tokens: 10, ..Usage::default() };
    Completion { tool_calls: wanted.iter().enumerate().map(call).collect(), usage, ..Completion::default() }
}

struct Counting {
    spec: ToolSpec,
    called: Arc<AtomicUsize>,
    answer: fn(Value) -> ToolAnswer,
    hangs: bool,
}

#[async_trait]
impl Tool for Counting {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, arguments: Value, cancel: CancellationToken) -> ToolAnswer {
        self.called.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            cancel.cancelled().await;
        }
        (self.answer)(arguments)
    }
}

struct Case {
    agent: Agent,
    model: Arc<Scripted>,
    looked: Arc<AtomicUsize>,
}

fn tool(
    name: &str,
    schema: Value,
    answer: fn(Value) -> ToolAnswer,
    hangs: bool,
) -> (Arc<dyn Tool>, Arc<AtomicUsize>) {
    let called = Arc::new(AtomicUsize::new(0));
    let spec = ToolSpec {
        name: name.into(),
        description: "d".into(),
        input_schema: Arc::new(schema),
        access: Access::Read,
    };
    (Arc::new(Counting { spec, called: Arc::clone(&called), answer, hangs }), called)
}

fn case(replies: Vec<Result<Completion, ModelError>>, budget: RunLimits) -> Case {
    let model = Arc::new(Scripted { replies: Mutex::new(replies.into()), requests: Mutex::default() });
    let at = json!({"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]});
    let (look, looked) = tool("look", at, |value| ToolAnswer::Ok(format!("seen {}", value["at"])), false);
    let (hang, _) = tool("hang", json!({"type": "object"}), |_| ToolAnswer::Ok("late".into()), true);
    let (long, _) = tool(
        "long",
        json!({"type": "object"}),
        |_| ToolAnswer::Ok("noise of the machine\n".repeat(3_000)),
        false,
    );
    let (finish, _) = tool("finish", json!({"type": "object"}), ToolAnswer::Finish, false);
    let workspace =
        Arc::new(Workspace::new(Vec::<Evidence>::new(), Redactor::new(), BlockingPool::default()));
    let agent = Agent {
        name: "tested".to_owned(),
        model: Arc::clone(&model) as Arc<dyn Model>,
        tools: vec![look, hang, long, finish],
        finishing_tool: Some("finish"),
        budget,
        workspace,
        watcher: None,
        review: None,
        account: None,
        recorder: Recorder::new(Actor::service("test")),
    };
    Case { agent, model, looked }
}

async fn run(case: &Case) -> Outcome {
    case.agent.run(vec![Message::User { text: "brief".into() }], &CancellationToken::new()).await
}

fn answers(case: &Case) -> Vec<String> {
    let requests = case.model.requests.lock().unwrap();
    let last = requests.last().unwrap();
    let text = |message: &Message| match message {
        Message::Tool { text, .. } => Some(text.clone()),
        _ => None,
    };
    last.messages.iter().filter_map(text).collect()
}

#[tokio::test]
async fn calls_are_answered_in_order_and_the_finishing_tool_ends() {
    let parallel = calls(&[("look", "{\"at\": 1}"), ("look", "{\"at\": 2}")]);
    let case = case(vec![Ok(parallel), Ok(calls(&[("finish", "{\"x\": 1}")]))], RunLimits::default());
    let outcome = run(&case).await;
    assert_eq!(
        (outcome.stop, outcome.finish, outcome.turns),
        (StopReason::Submitted, Some(json!({"x": 1})), 2)
    );
    let answers = answers(&case);
    assert!(answers[0].contains("seen 1") && answers[1].contains("seen 2"), "{answers:?}");
    assert_eq!(outcome.usage.total(), 40);
}

#[tokio::test]
async fn what_goes_wrong_is_said_in_words() {
    let wrong = calls(&[("nope", "{}"), ("look", "{at"), ("look", "{\"at\": \"x\"}"), ("look", "[1]")]);
    let case = case(vec![Ok(wrong), Ok(calls(&[("finish", "{}")]))], RunLimits::default());
    let outcome = run(&case).await;
    assert_eq!(outcome.stop, StopReason::Submitted);
    let answers = answers(&case);
    assert_eq!(answers.len(), 4, "one answer per call");
    assert!(answers[0].contains("no tool `nope`") && answers[0].contains("look"), "{}", answers[0]);
    assert!(answers[1].contains("not valid JSON"), "{}", answers[1]);
    assert!(answers[2].contains("/at"), "{}", answers[2]);
    assert!(answers[3].contains("JSON object"), "{}", answers[3]);
    assert!(outcome.calls[..4].iter().all(|call| call.failed));
}

#[tokio::test]
async fn the_same_call_is_answered_from_the_first() {
    let again = || Ok(calls(&[("look", "{ \"at\":7 }")]));
    let case = case(
        vec![Ok(calls(&[("look", "{\"at\": 7}")])), again(), Ok(calls(&[("finish", "{}")]))],
        RunLimits::default(),
    );
    run(&case).await;
    assert_eq!(case.looked.load(Ordering::SeqCst), 1);
    assert!(answers(&case)[1].contains("stands above"));
}

#[tokio::test]
async fn endless_calls_end_and_the_last_turn_leads_to_the_end() {
    let case = case(Vec::new(), RunLimits { turns: 4, ..RunLimits::default() });
    let outcome = run(&case).await;
    assert_eq!((outcome.stop, outcome.turns), (StopReason::Turns, 4));
    let requests = case.model.requests.lock().unwrap();
    assert_eq!(requests[3].choice.only(), Some("finish"));
    assert!(
        requests.iter().all(|request| request.tools == requests[0].tools),
        "a provider keeps what it read of them"
    );
}

#[tokio::test]
async fn whoever_only_repeats_calls_has_to_conclude() {
    let again = || Ok(calls(&[("look", "{\"at\": 7}")]));
    let case = case(vec![again(), again(), Ok(calls(&[("finish", "{}")]))], RunLimits::default());
    assert_eq!(run(&case).await.stop, StopReason::Submitted);
    let requests = case.model.requests.lock().unwrap();
    let forced: Vec<bool> = requests.iter().map(|request| request.choice.only().is_some()).collect();
    assert_eq!(forced, [false, false, true]);
}

#[tokio::test]
async fn a_call_that_is_written_is_made() {
    let text = "I conclude.\n```json\n{\"name\": \"finish\", \"arguments\": {}}\n```".to_owned();
    let case = case(vec![Ok(Completion { text, ..Completion::default() })], RunLimits::default());
    assert_eq!(run(&case).await.stop, StopReason::Submitted);
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_called_so() {
    let cut =
        || Ok(Completion { text: "{\"title\": \"the dis".into(), truncated: true, ..Completion::default() });
    let case = case(vec![cut(), cut()], RunLimits::default());
    let outcome = run(&case).await;
    assert!(outcome.detail.unwrap().contains("cut off"));
    let requests = case.model.requests.lock().unwrap();
    assert!(format!("{:?}", requests[1].messages).contains("cut off"));
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_hangs_and_a_run_that_lasts_are_ended() {
    let budget = RunLimits { tool_call: Duration::from_secs(5), ..RunLimits::default() };
    let one = case(vec![Ok(calls(&[("hang", "{}")])), Ok(calls(&[("finish", "{}")]))], budget);
    assert_eq!(run(&one).await.stop, StopReason::Submitted);
    assert!(answers(&one)[0].contains("no answer within 5s"), "{:?}", answers(&one));
    let two = case(vec![Ok(calls(&[("hang", "{}")]))], RunLimits { wall: Duration::from_secs(1), ..budget });
    assert_eq!(run(&two).await.stop, StopReason::WallTime);
}

#[tokio::test]
async fn tokens_cancelling_and_a_failed_model_end_it() {
    let spent = case(Vec::new(), RunLimits { total_tokens: 30, ..RunLimits::default() });
    assert_eq!(run(&spent).await.stop, StopReason::Tokens);
    let cancelled = case(Vec::new(), RunLimits::default());
    let token = CancellationToken::new();
    token.cancel();
    assert_eq!(cancelled.agent.run(Vec::new(), &token).await.stop, StopReason::Cancelled);
    let failed = case(
        vec![Err(ModelError::Refused { status: Some(401), message: "bad key".into() })],
        RunLimits::default(),
    );
    let outcome = run(&failed).await;
    assert_eq!(outcome.stop, StopReason::ModelFailed);
    assert!(outcome.detail.unwrap().contains("bad key"));
}

#[tokio::test]
async fn a_long_result_is_kept_whole_and_shown_in_part() {
    let case = case(
        vec![Ok(calls(&[("long", "{}")])), Ok(calls(&[("finish", "{}")]))],
        RunLimits { result_tokens: 200, ..RunLimits::default() },
    );
    run(&case).await;
    let answer = &answers(&case)[0];
    assert!(answer.starts_with("[E1] result of long, 3000 lines, kept whole"), "{answer}");
    assert!(answer.len() < 4_000);
    assert_eq!(case.agent.workspace.added()[0].text.lines().count(), 3_000);
}

#[tokio::test]
async fn a_context_the_provider_finds_too_long_is_shortened() {
    let too_long = || Err(ModelError::ContextTooLong { message: "8192".into() });
    let looks = || Ok(calls(&[("long", "{}")]));
    let fits = case(vec![looks(), too_long(), Ok(calls(&[("finish", "{}")]))], RunLimits::default());
    assert_eq!(run(&fits).await.stop, StopReason::Submitted);
    let never =
        case(std::iter::once(looks()).chain((0..9).map(|_| too_long())).collect(), RunLimits::default());
    assert_eq!(run(&never).await.stop, StopReason::ContextTooLong);
    // A brief without results cannot be shortened; its creator has to make a smaller one.
    let brief = case((0..9).map(|_| too_long()).collect(), RunLimits::default());
    let outcome = run(&brief).await;
    assert_eq!((outcome.stop, outcome.turns), (StopReason::ContextTooLong, 0));
}

#[tokio::test]
async fn prose_is_asked_once_to_conclude_properly() {
    let prose = || Ok(Completion { text: "it is the disk".into(), ..Completion::default() });
    let mended = case(vec![prose(), Ok(calls(&[("finish", "{}")]))], RunLimits::default());
    assert_eq!(run(&mended).await.stop, StopReason::Submitted);
    let stubborn = case(vec![prose(), prose()], RunLimits::default());
    let outcome = run(&stubborn).await;
    assert_eq!((outcome.stop, outcome.text.as_str()), (StopReason::Answered, "it is the disk"));
}
