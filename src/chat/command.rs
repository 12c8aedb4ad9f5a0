//! Commands in an incident's conversation: `/confirm`, `/correct CAUSE`, `/note TEXT`, with lines `fix: …` and `link: …`.
//! Parsed here, not by a model, so that no log can cause a resolution.

use crate::domain::{Actor, Verdict};
use crate::knowledge::{Knowledge, NewResolution, resolution_line};
use uuid::Uuid;

/// Maximum size of a cause or fix in bytes.
const MAX_TEXT: usize = 20_000;
/// Usage text for an invalid command.
const USAGE: &str = "Write `/confirm`, `/correct` with the real cause, or `/note` with a text; below it, if you like, a line `fix: …` and a line `link: https://…`.";

/// Parses a command. Returns `None` for a question and `Some(Err)` with the problem of an invalid command.
fn parse(message: &str, author: &Actor) -> Option<Result<NewResolution, &'static str>> {
    let (word, rest) = match message.trim_start().split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest),
        None => (message.trim(), ""),
    };
    let verdict = match word {
        "/confirm" => Verdict::Confirmed,
        "/correct" => Verdict::Corrected,
        "/note" => Verdict::Note,
        _ => return None,
    };
    let (mut text, mut fix, mut link) = (Vec::new(), Vec::new(), None);
    let mut to_fix = false;
    for line in rest.lines() {
        let field = |name: &str| {
            let head = line.trim_start().get(..name.len())?;
            head.eq_ignore_ascii_case(name).then(|| line.trim_start()[name.len()..].trim().to_owned())
        };
        if let Some(url) = field("link:") {
            link = Some(url);
        } else if let Some(first) = field("fix:") {
            to_fix = true;
            fix.push(first);
        } else if to_fix {
            fix.push(line.to_owned());
        } else {
            text.push(line.to_owned());
        }
    }
    let whole = |lines: Vec<String>| Some(lines.join("\n").trim().to_owned()).filter(|text| !text.is_empty());
    let (cause, fix) = (whole(text), whole(fix));
    if verdict == Verdict::Corrected && cause.is_none() {
        return Some(Err("`/correct` has to say what it really was."));
    }
    if verdict == Verdict::Note && cause.is_none() && fix.is_none() {
        return Some(Err("`/note` has to say something."));
    }
    if [&cause, &fix].into_iter().flatten().any(|text| text.len() > MAX_TEXT) {
        return Some(Err("That is too long: 20,000 bytes are the limit."));
    }
    let is_url =
        |link: &String| reqwest::Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if link.as_ref().is_some_and(|link| !is_url(link)) {
        return Some(Err("`link:` has to be an http or https URL."));
    }
    Some(Ok(NewResolution {
        verdict,
        cause,
        fix,
        link,
        author: author.clone(),
        origin: "chat",
        delivery: None,
    }))
}

/// Executes the command of a message, if it is one. Returns the reply.
///
/// # Errors
/// The database is unavailable.
pub(super) async fn run(
    knowledge: &Knowledge,
    incident: Option<Uuid>,
    message: &str,
    author: &Actor,
) -> sqlx::Result<Option<String>> {
    let Some(parsed) = parse(message, author) else { return Ok(None) };
    let Some(incident) = incident else {
        return Ok(Some(
            "This conversation is about no incident, so there is nothing to resolve.".to_owned(),
        ));
    };
    let said = match parsed {
        Ok(said) => said,
        Err(problem) => return Ok(Some(format!("Nothing was stored. {problem} {USAGE}"))),
    };
    let stored = knowledge.resolve(incident, said).await?;
    Ok(Some(match stored {
        Some(resolution) => {
            let state = if resolution.verdict.resolves() {
                "The incident is resolved."
            } else {
                "The incident stays open."
            };
            format!("Stored, and found from now on: {} {state}", resolution_line(&resolution))
        }
        None => "Nothing was stored: the incident is gone.".to_owned(),
    }))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn resolutions_are_read_and_questions_are_not() {
        let read = |message: &str| parse(message, &Actor::new("alice", "t1"));
        assert!(read("why?").is_none());
        assert!(read("/confirmed?").is_none());
        assert!(read("it is /note worthy").is_none());
        let said = read(
            "/correct The forwarder was down\nFix: restarted it\nand again\nlink: https://git.example/1",
        )
        .unwrap()
        .unwrap();
        assert_eq!(
            (said.verdict, said.origin, said.author.name.as_str()),
            (Verdict::Corrected, "chat", "alice")
        );
        assert_eq!(said.cause.as_deref(), Some("The forwarder was down"));
        assert_eq!(said.fix.as_deref(), Some("restarted it\nand again"));
        assert_eq!(said.link.as_deref(), Some("https://git.example/1"));
        let confirmed = read(" /confirm").unwrap().unwrap();
        assert_eq!((confirmed.verdict, confirmed.cause), (Verdict::Confirmed, None));
        for wrong in ["/correct", "/note  ", "/note x\nlink: javascript:alert(1)"] {
            assert!(read(wrong).unwrap().is_err(), "{wrong}");
        }
    }
}
