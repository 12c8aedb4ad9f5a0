//! Formats notifications for each channel. Text from models and reporters cannot contain links or mention users.

use crate::domain::{Incident, Novelty, Report};
use crate::evidence::untrusted::link_policy::LinkPolicy;
use crate::evidence::untrusted::markdown;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Maximum number of items shown in a digest. The others are only counted.
const SHOWN: usize = 10;
/// Maximum length of a title in characters.
const MAX_TITLE: usize = 200;
/// Maximum length of the facts in characters. Escaping can make facts and titles five times as long; a section in Slack is
/// limited to 3,000 characters.
const MAX_FACTS: usize = 250;
/// Maximum length of a linked URL in bytes.
const MAX_URL: usize = 400;

/// One item of a notification.
pub(super) struct Item {
    /// Stable id, the same for each delivery.
    pub(super) id: Uuid,
    pub(super) novelty: Novelty,
    pub(super) at: DateTime<Utc>,
    pub(super) report: Report,
    pub(super) incident: Option<Incident>,
    /// URL of the report.
    pub(super) url: Option<String>,
}

/// The HTTP message to post.
pub(super) struct Message {
    pub(super) body: String,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Message {
    fn plain(body: &Value) -> Self {
        Self { body: body.to_string(), headers: Vec::new() }
    }
}

impl Item {
    fn title(&self) -> String {
        let title =
            self.incident.as_ref().map_or("The failure could not be investigated", |found| &found.title);
        title.chars().take(MAX_TITLE).collect()
    }

    fn is_link(url: &str) -> bool {
        url.len() <= MAX_URL && (url.starts_with("https://") || url.starts_with("http://"))
    }

    /// Returns the URL of the issue, or else of the report.
    fn link(&self) -> Option<&str> {
        let issue = self.incident.as_ref().and_then(|incident| incident.issue_url.as_deref());
        [issue, self.url.as_deref()].into_iter().flatten().find(|url| Self::is_link(url))
    }

    fn headline(&self) -> &'static str {
        match self.novelty {
            Novelty::New => "New cause",
            Novelty::Returned => "A solved cause is back",
            Novelty::Known => "Known cause, seen again",
            Novelty::Failed => "Not investigated",
        }
    }

    /// Returns location and class of the failure.
    fn facts(&self) -> String {
        let failure = &self.report.failure;
        let place = format!("{}/{}", failure.namespace, failure.pod_name);
        let job =
            [&failure.pipeline, &failure.task].into_iter().flatten().cloned().collect::<Vec<_>>().join(" › ");
        let mut facts = vec![place];
        facts.extend((!job.is_empty()).then_some(job));
        if let Some(incident) = &self.incident {
            facts.push(incident.class.as_str().to_owned());
            if incident.occurrences > 1 {
                facts.push(format!("seen {} times", incident.occurrences));
            }
        }
        facts.join(" · ").chars().take(MAX_FACTS).collect()
    }
}

/// Returns the number of items by novelty.
fn summary(items: &[Item]) -> String {
    let counted = Novelty::ALL.iter().copied().filter_map(|novelty| {
        let count = items.iter().filter(|item| item.novelty == novelty).count();
        (count > 0).then(|| format!("{count} {}", novelty.as_str()))
    });
    format!("{} failures: {}", items.len(), counted.collect::<Vec<_>>().join(", "))
}

/// Escapes a text for Slack, so that markup such as `<!channel>` stays text.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // Slack would turn plain URLs into links and names into mentions.
    text.replace("://", ":\u{200b}//").replace('@', "@\u{200b}").replace(['*', '_', '~', '`', '|'], " ")
}

/// Formats a message for a Slack incoming webhook.
pub(super) fn slack(items: &[Item]) -> Message {
    let section =
        |text: String| json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}});
    let mut blocks = Vec::new();
    if items.len() > 1 {
        blocks.push(section(format!("*{}*", summary(items))));
    }
    for item in items.iter().take(SHOWN) {
        let title = escaped(&item.title());
        let title = match item.link() {
            Some(url) => format!("<{}|{title}>", url.replace(['<', '>', '|'], "")),
            None => title,
        };
        blocks.push(section(format!("*{}*: {title}\n{}", item.headline(), escaped(&item.facts()))));
    }
    if items.len() > SHOWN {
        blocks.push(section(format!("… and {} more", items.len() - SHOWN)));
    }
    let text = match items {
        [item] => format!("{}: {}", item.headline(), escaped(&item.title())),
        items => summary(items),
    };
    Message::plain(&json!({ "text": text, "blocks": blocks }))
}

/// Formats an adaptive card for a Teams workflow.
pub(super) fn teams(items: &[Item], links: &LinkPolicy) -> Message {
    let block = |text: String, more: Value| {
        let mut block = json!({"type": "TextBlock", "text": text, "wrap": true});
        if let (Value::Object(block), Value::Object(more)) = (&mut block, more) {
            block.extend(more);
        }
        block
    };
    let mut body = Vec::new();
    if items.len() > 1 {
        body.push(block(summary(items), json!({"weight": "Bolder"})));
    }
    let mut actions = Vec::new();
    for item in items.iter().take(SHOWN) {
        let title = markdown::sanitize_line(&item.title(), links);
        body.push(block(format!("**{}**: {title}", item.headline()), json!({"spacing": "Medium"})));
        let facts = markdown::sanitize_line(&item.facts(), links);
        body.push(block(facts, json!({"isSubtle": true, "spacing": "None"})));
        if let Some(url) = item.link() {
            let what =
                if items.len() == 1 { "Open".to_owned() } else { item.title().chars().take(40).collect() };
            actions.push(json!({"type": "Action.OpenUrl", "title": what, "url": url}));
        }
    }
    if items.len() > SHOWN {
        body.push(block(format!("… and {} more", items.len() - SHOWN), json!({})));
    }
    // A card shows at most six actions.
    actions.truncate(6);
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": body, "actions": actions,
    });
    Message::plain(&json!({
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }))
}

/// Formats a signed message for any service, following the Standard Webhooks specification 1.0 (`webhook-signature` is `v1,`
/// and the base64 of HMAC-SHA256 over `id.timestamp.body`). A redelivery has the same id unless it contains more items.
pub(super) fn webhook(items: &[Item], now: DateTime<Utc>, secret: &SecretString) -> Message {
    let told: Vec<Value> = items.iter().map(as_json).collect();
    let body = json!({"type": "reports.ended", "timestamp": now, "data": {"items": told}}).to_string();
    let mut of_all = Sha256::new();
    items.iter().for_each(|item| of_all.update(item.id));
    let id = format!("msg_{}", hex::encode(&of_all.finalize()[..16]));
    let timestamp = now.timestamp().to_string();
    // By the specification, a secret is base64 after `whsec_`. Any other secret is used as it is.
    let secret = secret.expose_secret();
    let key = secret
        .strip_prefix("whsec_")
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .unwrap_or_else(|| secret.as_bytes().to_vec());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let headers =
        vec![("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
    Message { body, headers }
}

fn as_json(item: &Item) -> Value {
    let incident = item.incident.as_ref().map(|incident| {
        json!({
            "id": incident.id, "title": incident.title, "class": incident.class, "fingerprint": incident.fingerprint,
            "occurrences": incident.occurrences, "issue_url": incident.issue_url, "previous_id": incident.previous_id,
            "cause": incident.diagnosis.as_ref().map(|diagnosis| &diagnosis.cause),
            "confidence": incident.diagnosis.as_ref().map(|diagnosis| diagnosis.confidence),
        })
    });
    json!({
        "id": item.id, "novelty": item.novelty.as_str(), "at": item.at, "report_id": item.report.id, "report_url": item.url,
        "failure": item.report.failure, "incident": incident,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Failure, FailureClass, Fingerprint, IncidentStatus, ReportStatus};

    fn item(title: &str) -> Item {
        let at = DateTime::UNIX_EPOCH;
        let failure = Failure { namespace: "ci".into(), pod_name: "build-1".into(), ..Failure::default() };
        let report = Report {
            id: Uuid::nil(),
            failure,
            caller: "anyone".into(),
            status: ReportStatus::Done,
            result: None,
            error: None,
            incident_id: Some(Uuid::nil()),
            attempts: 1,
            created_at: at,
            finished_at: Some(at),
        };
        let incident = Incident {
            id: Uuid::nil(),
            namespace: "ci".into(),
            fingerprint: Fingerprint("f".into()),
            status: IncidentStatus::Open,
            title: title.into(),
            class: FailureClass::Dependency,
            diagnosis: None,
            issue_url: Some("https://git.example/o/r/issues/7".into()),
            occurrences: 3,
            first_seen: at,
            last_seen: at,
            previous_id: None,
            resolved_at: None,
            merged_into: None,
            split_from: None,
        };
        Item { id: Uuid::nil(), novelty: Novelty::New, at, report, incident: Some(incident), url: None }
    }

    #[test]
    fn words_call_nobody_and_lead_nowhere() {
        let title = "<!channel> *see* [here](https://evil.example/x) <https://evil.example|log> @all & more";
        let items = [item(title), item("plain")];
        let slack = slack(&items).body;
        assert!(!slack.contains("<!channel>") && !slack.contains("https://evil"), "{slack}");
        assert!(slack.contains("<https://git.example/o/r/issues/7|&lt;!channel&gt;"), "{slack}");
        assert!(slack.contains("2 failures: 2 new") && slack.contains("seen 3 times"), "{slack}");
        let teams: Value = serde_json::from_str(&teams(&items, &LinkPolicy::default()).body).unwrap();
        let card = &teams["attachments"][0]["content"];
        let text = card["body"][1]["text"].as_str().unwrap();
        assert!(text.starts_with("**New cause**: ") && !text.contains("](https://evil"), "{text}");
        assert_eq!(card["actions"][0]["url"], "https://git.example/o/r/issues/7");
    }

    #[test]
    fn a_section_fits_slack_whatever_is_told() {
        let mut item = item(&"&".repeat(300));
        item.report.failure.pipeline = Some("&".repeat(253));
        item.report.failure.task = Some("<".repeat(253));
        let slack: Value = serde_json::from_str(&slack(&[item]).body).unwrap();
        let section = &slack["blocks"][0]["text"];
        let text = section["text"].as_str().unwrap();
        assert!(text.chars().count() <= 3_000 && text.contains("&amp;&amp;"), "{}", text.len());
        assert_eq!(section["verbatim"], true, "names of channels and people stay text");
    }

    #[test]
    fn a_long_digest_is_counted_not_listed() {
        let items: Vec<Item> = (0..40).map(|number| item(&format!("cause {number}"))).collect();
        let slack: Value = serde_json::from_str(&slack(&items).body).unwrap();
        assert_eq!(slack["text"], "40 failures: 40 new");
        assert_eq!(slack["blocks"].as_array().unwrap().len(), SHOWN + 2);
        let teams: Value = serde_json::from_str(&teams(&items, &LinkPolicy::default()).body).unwrap();
        assert!(teams["attachments"][0]["content"]["actions"].as_array().unwrap().len() <= 6);
    }

    /// Uses the example secret of the specification's libraries.
    #[test]
    fn a_webhook_is_signed_as_the_specification_wants() {
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let message = webhook(&[item("x")], DateTime::UNIX_EPOCH, &secret);
        let header = |name| message.headers.iter().find(|(known, _)| *known == name).unwrap().1.clone();
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.0.{}", header("webhook-id"), message.body).as_bytes());
        let signature = header("webhook-signature");
        let given = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
        assert!(mac.verify_slice(&given).is_ok() && header("webhook-timestamp") == "0");
    }
}
