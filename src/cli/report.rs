//! `report`: sends a failure to a server and prints the outcome, which also determines the exit code.

use super::in_words;
use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, Response, Url};
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Client timeout; the server responds with 202 long before.
const TIMEOUT: Duration = Duration::from_secs(1_800);
/// Exit code for an unreachable server.
const UNREACHABLE: u8 = 3;

/// Arguments of `report`.
///
/// Exit codes: 0 done, 1 the report failed, 2 the server refused the request, 3 it cannot be reached, 4 accepted and still running.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 the report failed; 2 the server or the command line refused the request; 3 the server cannot be reached; 4 accepted, still running."
)]
pub(super) struct Arguments {
    /// Namespace of the failed pod.
    #[arg(long)]
    namespace: String,
    /// The failed pod.
    #[arg(long)]
    pod: String,
    /// The container in it; looked up when left out.
    #[arg(long)]
    container: Option<String>,
    /// Pipeline the pod belongs to.
    #[arg(long)]
    pipeline: Option<String>,
    /// Task or step of the pipeline that failed.
    #[arg(long)]
    task: Option<String>,
    /// Name or number of the run.
    #[arg(long)]
    run: Option<String>,
    /// Where the run can be looked at.
    #[arg(long, value_name = "URL")]
    run_url: Option<String>,
    /// Repository that was built, such as platform/shop.
    #[arg(long)]
    repository: Option<String>,
    /// Commit that was built.
    #[arg(long)]
    commit: Option<String>,
    /// A log to send along, for a pod that is gone; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The log of the last good run of the same job: what it says too counts less.
    #[arg(long, value_name = "FILE")]
    good_log: Option<PathBuf>,
    /// Link to the last good run.
    #[arg(long, value_name = "URL")]
    last_good_run: Option<String>,
    /// The same key gives the same report.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Do not wait for the outcome.
    #[arg(long)]
    no_wait: bool,
    /// Print the server's answer as JSON.
    #[arg(long)]
    json: bool,
    /// The server.
    #[arg(long, env = "REGREEN_SERVER", value_name = "URL", default_value = "http://127.0.0.1:8000", value_parser = server)]
    server: String,
    /// API key or token that says who reports, where the server asks.
    #[arg(long, env = "REGREEN_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// File with it, such as a service account's projected token.
    #[arg(long, env = "REGREEN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Parses a server URL and removes a trailing slash.
fn server(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('/');
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(text.to_owned()),
        _ if text.is_empty() => Err("it is empty; leave it out for http://127.0.0.1:8000".to_owned()),
        _ if text.contains("://") => Err("it is no address that begins with http:// or https://".to_owned()),
        _ => {
            Err(format!("it has to begin with http:// or https://; say `http://{text}` or `https://{text}`"))
        }
    }
}

/// Reads a text file, or standard input for `-`.
fn read(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(path).map(|read| bytes = read)
    };
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Builds the request.
fn request(arguments: &Arguments) -> anyhow::Result<RequestBuilder> {
    let text = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
    let twice = [&arguments.log, &arguments.good_log].map(|path| path.as_deref() == Some(Path::new("-")));
    anyhow::ensure!(twice != [true, true], "`--log -` and `--good-log -` cannot both read standard input");
    let body = json!({
        "namespace": arguments.namespace, "pod_name": arguments.pod, "container_name": arguments.container,
        "pipeline": arguments.pipeline, "task": arguments.task, "run": arguments.run, "run_url": arguments.run_url,
        "repository": arguments.repository, "commit": arguments.commit, "last_good_run": arguments.last_good_run,
        "log": text(&arguments.log)?, "good_log": text(&arguments.good_log)?,
    });
    let http = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(10))
        // Following a redirect would turn the POST into a GET and send the token along.
        .redirect(Policy::none())
        .build()?;
    let mut request = http.post(format!("{}/report-failure", arguments.server)).json(&body);
    let token = match &arguments.token_file {
        Some(path) => Some(read(path)?),
        None => arguments.token.clone(),
    };
    if let Some(token) = token {
        request = request.bearer_auth(token.trim());
    }
    if let Some(key) = &arguments.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    if arguments.no_wait {
        request = request.header("prefer", "respond-async");
    }
    Ok(request)
}

/// Sends the report and prints the outcome.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let request = request(&arguments)?;
    let spinner = spinner(&arguments);
    let answer = request.send().await;
    spinner.finish_and_clear();
    let response = match answer {
        Ok(response) => response,
        Err(error) => {
            errln!("regreen: {}", unreachable(&arguments.server, error));
            return Ok(ExitCode::from(UNREACHABLE));
        }
    };
    let status = response.status().as_u16();
    let answer: Value = match elsewhere(&response) {
        Some(detail) => json!({ "detail": detail }),
        None => response.json().await.unwrap_or_else(|_| unreadable(&arguments.server, status)),
    };
    print_answer(&arguments, status, &answer);
    Ok(ExitCode::from(match status {
        200 => 0,
        202 => 4,
        // Only for a report that was accepted and processed.
        502 => 1,
        _ => 2,
    }))
}

/// Describes why there was no response and what to do.
fn unreachable(server: &str, error: reqwest::Error) -> String {
    let advice = if error.is_connect() {
        "is a server running there (`regreen serve`)? Another one is named by `--server URL` or REGREEN_SERVER"
    } else if error.is_timeout() {
        "the report may have been taken: look at its list of reports before you send it again"
    } else {
        "the connection ended before the answer: the log may be far larger than the server takes (`server.body_limit`), or see the server's log. With `--idempotency-key` a report can be sent again and is one all the same"
    };
    format!("{server} cannot be reached: {}; {advice}", in_words(&error.without_url().into()))
}

/// Describes a response that Regreen would not give.
fn unreadable(server: &str, status: u16) -> Value {
    json!({ "detail": format!("HTTP {status} without a readable answer; is {server} the address of Regreen?") })
}

/// Suggests another server URL when the response is a redirect.
fn elsewhere(response: &Response) -> Option<String> {
    let location = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?;
    let location = response.url().join(location.to_str().ok()?).ok()?;
    let advice = match location.as_str().strip_suffix("/report-failure") {
        Some(server) => format!("use `--server {server}`"),
        None => "name the URL of the server itself with `--server`".to_owned(),
    };
    Some(format!("the server redirects to {location}, and a report is not sent on; {advice}"))
}

fn spinner(arguments: &Arguments) -> ProgressBar {
    if arguments.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner()
        .with_message(format!("looking at {}/{} …", arguments.namespace, arguments.pod));
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn print_answer(arguments: &Arguments, status: u16, answer: &Value) {
    if arguments.json {
        outln!("{answer}");
        return;
    }
    match (status, answer["result"].as_str(), answer["detail"].as_str()) {
        (200 | 202, Some(result), _) => outln!("{result}"),
        (_, _, Some(detail)) => errln!("regreen: {detail}{}", advice(arguments, status)),
        _ => errln!("regreen: the server answered HTTP {status}"),
    }
    if let Some(id) = answer["report_id"].as_str() {
        outln!("{}/reports/{id}", arguments.server);
    }
}

/// Returns advice on a rejection that only the client can give.
fn advice(arguments: &Arguments, status: u16) -> &'static str {
    match status {
        401 if arguments.token.is_none() && arguments.token_file.is_none() => {
            "; give an API key with `--token-file FILE` or REGREEN_TOKEN (`regreen token create --role reporter --name NAME` makes one)"
        }
        413 if arguments.log.is_some() => {
            "; send the end of the log, where failures stand: `tail -c 16M LOG | regreen report … --log -`"
        }
        _ => "",
    }
}
