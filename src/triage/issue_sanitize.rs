//! Sanitizes an issue's texts for the tracker: words of a model, a log or a reporter cannot mention users, close issues or
//! contain unknown links. Only the reporter's own URLs become links.

use crate::domain::{Diagnosis, Failure};
use crate::evidence::untrusted::link_policy::LinkPolicy;
use crate::evidence::untrusted::markdown::{self, RenderTarget};
use reqwest::Url;

/// Sanitizes the texts of a diagnosis.
pub(super) fn diagnosis(diagnosis: &Diagnosis, links: &LinkPolicy) -> Diagnosis {
    let line = |text: &String| unmarked(&markdown::sanitize_line(text, links));
    Diagnosis {
        cause: unmarked(&markdown::sanitize(&diagnosis.cause, links, RenderTarget::Tracker)),
        next_steps: diagnosis.next_steps.iter().map(line).collect(),
        analyst: line(&diagnosis.analyst),
        note: diagnosis.note.as_ref().map(line),
        // The template puts these names into code spans.
        not_found: diagnosis.not_found.iter().map(|name| code(name)).collect(),
        ..diagnosis.clone()
    }
}

/// Removes the mark of an issue from a text, so that an issue which quotes another incident's mark is not taken for that
/// incident's issue.
pub(super) fn unmarked(text: &str) -> String {
    text.replace("regreen:incident:", "regreen incident ")
}

/// Sanitizes the fields of a failure for a table.
pub(super) fn failure(failure: &Failure, links: &LinkPolicy) -> Failure {
    let cell = |text: &Option<String>| {
        text.as_ref().map(|text| markdown::sanitize_line(text, links).replace('|', "\\|"))
    };
    let url = |text: &Option<String>| text.as_ref().map(|text| address(text, links));
    Failure {
        pipeline: cell(&failure.pipeline),
        task: cell(&failure.task),
        run: cell(&failure.run),
        commit: failure.commit.as_deref().map(code),
        run_url: url(&failure.run_url),
        last_good_run: url(&failure.last_good_run),
        repository: url(&failure.repository),
        ..failure.clone()
    }
}

/// Renders a reporter's or tracker's URL as a link, and anything else as text.
pub(super) fn address(text: &str, links: &LinkPolicy) -> String {
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
    };
    match Url::parse(text) {
        // Encodes the characters that are special in Markdown or tables and that URL parsing leaves unchanged.
        Ok(url) if is_plain(&url) && !text.contains(char::is_whitespace) => {
            let special = [
                ('|', "%7C"),
                ('`', "%60"),
                ('*', "%2A"),
                ('[', "%5B"),
                (']', "%5D"),
                ('<', "%3C"),
                ('\\', "%5C"),
            ];
            let origin = url.origin().ascii_serialization();
            let path =
                url.as_str().strip_prefix(&origin).unwrap_or_default().trim_end_matches('/').to_owned();
            let path =
                special.into_iter().fold(path, |path, (character, spelled)| path.replace(character, spelled));
            origin + &path
        }
        _ => markdown::sanitize_line(text, links).replace('|', "\\|"),
    }
}

/// Sanitizes a text for a code span in a table.
fn code(text: &str) -> String {
    text.replace(['`', '|'], "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_bears_another_incidents_mark() {
        let marked = "see <!-- regreen:incident:7 --> there";
        assert!(!unmarked(marked).contains("<!-- regreen:incident:") && unmarked("plain") == "plain");
    }

    #[test]
    fn only_the_reporters_addresses_are_links() {
        let links = LinkPolicy::default();
        let failure = failure(
            &Failure {
                pipeline: Some("a | b @all".into()),
                commit: Some("x`@all".into()),
                run_url: Some("https://ci.example/run/7?a=1|2".into()),
                last_good_run: Some("https://u:p@ci.example/".into()),
                repository: Some("https://git.example/o/r @all".into()),
                ..Failure::default()
            },
            &links,
        );
        assert_eq!(failure.pipeline.unwrap(), "a \\| b `@all`");
        assert_eq!(failure.commit.unwrap(), "x'@all");
        assert_eq!(failure.run_url.unwrap(), "https://ci.example/run/7?a=1%7C2");
        assert_eq!(failure.last_good_run.unwrap(), "`https://u:p@ci.example/`");
        assert_eq!(failure.repository.unwrap(), "`https://git.example/o/r` `@all`");
    }
}
