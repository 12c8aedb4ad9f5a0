//! Template filters that format numbers, times and links.

use crate::clock;
use chrono::{DateTime, Utc};
use minijinja::value::Value;

fn time(value: &Value) -> Option<DateTime<Utc>> {
    let text = value.as_str()?;
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc))
}

/// Returns a `<time>` element. A script converts it to the reader's time zone: the text for class `exact`, the title always.
fn element(time: DateTime<Utc>, shown: &str, class: &str) -> Value {
    let exact = exact(time);
    let machine = time.format("%Y-%m-%dT%H:%M:%SZ");
    Value::from_safe_string(format!("<time{class} datetime=\"{machine}\" title=\"{exact}\">{shown}</time>"))
}

fn exact(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Formats a time as `5 minutes ago`, with the exact time as the title.
pub(super) fn ago(value: &Value) -> Value {
    let Some(time) = time(value) else { return Value::from("") };
    let seconds = (clock::now() - time).num_seconds();
    let units = [("day", 86_400), ("hour", 3_600), ("minute", 60)];
    let shown = match units.iter().find(|(_, length)| seconds >= *length) {
        Some((_, length)) if seconds / length > 60 => time.format("%Y-%m-%d").to_string(),
        Some((unit, length)) => {
            let number = seconds / length;
            format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
        }
        None => "just now".to_owned(),
    };
    element(time, &shown, "")
}

/// Formats a date and time in UTC; a script converts it to the reader's time zone.
pub(super) fn when(value: &Value) -> Value {
    let Some(time) = time(value) else { return Value::from("") };
    element(time, &exact(time), " class=\"exact\"")
}

/// Formats milliseconds in a suitable unit.
pub(super) fn span(milliseconds: f64) -> String {
    match milliseconds {
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.1} s", ms / 1_000.0),
        ms if ms < 3_600_000.0 => format!("{:.0} min", ms / 60_000.0),
        ms if ms < 172_800_000.0 => format!("{:.1} h", ms / 3_600_000.0),
        ms => format!("{:.0} days", ms / 86_400_000.0),
    }
}

/// Formats a number as `12,345`.
pub(super) fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    if number < 0 { format!("-{shown}") } else { shown }
}

/// Formats a number of bytes.
pub(super) fn size(bytes: i64) -> String {
    match bytes as f64 {
        bytes if bytes < 1_000.0 => format!("{bytes} B"),
        bytes if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        bytes => format!("{:.1} MB", bytes / 1e6),
    }
}

/// Truncates a text to a number of characters, with an ellipsis.
pub(super) fn short(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// Formats an amount in the currency of the configured prices.
pub(super) fn money(amount: f64) -> String {
    if amount > 0.0 && amount < 0.01 { format!("{amount:.4}") } else { format!("{amount:.2}") }
}

/// Returns a URL if it is http or https, otherwise an empty text.
pub(super) fn outside(url: &str) -> String {
    match reqwest::Url::parse(url) {
        // The normalised URL: browsers may parse the original differently.
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => parsed.into(),
        _ => String::new(),
    }
}

/// Returns the first http or https URL in a sentence, such as the issue in an outcome.
pub(super) fn link_in(text: &str) -> String {
    text.split_whitespace().map(outside).find(|url| !url.is_empty()).unwrap_or_default()
}

/// Returns the page of an API path such as `/api/reports/…/evidence/E1`.
pub(super) fn page_of(path: &str) -> String {
    path.strip_prefix("/api/").map(|rest| format!("/{rest}")).unwrap_or_default()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_spans_have_their_unit() {
        assert_eq!(
            [count(0), count(999), count(1_000), count(-1_234_567)],
            ["0", "999", "1,000", "-1,234,567"].map(str::to_owned)
        );
        assert_eq!([span(12.0), span(1_500.0), span(7.2e6)], ["12 ms", "1.5 s", "2.0 h"].map(str::to_owned));
        assert_eq!([size(12), size(1_500), size(2_500_000)], ["12 B", "1.5 kB", "2.5 MB"].map(str::to_owned));
    }

    #[test]
    fn only_web_addresses_are_linked() {
        assert_eq!(outside("https://forge.example/1"), "https://forge.example/1");
        assert_eq!(outside("http:/mcp-servers"), "http://mcp-servers/");
        assert_eq!(outside("javascript:alert(1)"), "");
        assert_eq!(link_in("Issue created: https://forge.example/1"), "https://forge.example/1");
        assert_eq!(link_in("seen 2 times: javascript:alert(1)"), "");
        assert_eq!(page_of("/api/reports/1/evidence/E1"), "/reports/1/evidence/E1");
        assert_eq!(page_of("javascript:alert(1)"), "");
    }
}
