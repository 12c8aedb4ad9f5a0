//! Reads Prometheus alert rules, from rule files and `PrometheusRule` objects. Each alert becomes a document made of its
//! annotations.

use super::{Document, Layout};
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    groups: Vec<Group>,
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    expr: Option<serde_norway::Value>,
    #[serde(rename = "for")]
    pending: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, serde_norway::Value>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Returns the alerts of a file. Ignores recording rules.
pub(super) fn documents(path: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    let mut found: Vec<Document> = Vec::new();
    for part in serde_norway::Deserializer::from_str(text) {
        let file = File::deserialize(part).context("it is not a file of Prometheus rules")?;
        for group in file.groups.into_iter().chain(file.spec.into_iter().flat_map(|spec| spec.groups)) {
            for rule in group.rules {
                let Some(alert) = &rule.alert else { continue };
                // Combines definitions of the same alert, for example with two severities, into one document.
                let document = document(path, alert, &rule);
                match found.iter_mut().find(|known| known.path == document.path) {
                    Some(known) => {
                        known.body.push_str("\n\n");
                        known.body.push_str(&document.body);
                    }
                    None => found.push(document),
                }
            }
        }
    }
    ensure!(
        !found.is_empty(),
        "it holds no Prometheus alert (`groups:` with `rules:` that have an `alert:`)"
    );
    Ok(found)
}

fn document(path: &str, alert: &str, rule: &Rule) -> Document {
    let summary = rule.annotations.get("summary").map(|text| text.trim()).filter(|text| !text.is_empty());
    let title = summary.map_or_else(|| alert.to_owned(), |summary| format!("{alert}: {summary}"));
    let mut body = format!("# {title}\n");
    for (name, text) in rule.annotations.iter().filter(|(name, _)| *name != "summary") {
        let name = name.replace('_', " ");
        let _ = write!(body, "\n## {name}\n{}\n", text.trim());
    }
    let plain = |value: &serde_norway::Value| match value {
        serde_norway::Value::String(text) => text.trim().to_owned(),
        other => serde_norway::to_string(other).unwrap_or_default().trim().to_owned(),
    };
    if let Some(expr) = &rule.expr {
        let pending = rule.pending.as_ref().map_or_else(String::new, |time| format!(" for {time}"));
        let _ = write!(body, "\n## Fires when\n```\n{}\n```{pending}\n", plain(expr));
    }
    let labels: Vec<String> =
        rule.labels.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
    if !labels.is_empty() {
        let _ = writeln!(body, "\nLabels: {}", labels.join(", "));
    }
    Document {
        path: format!("{path}#{alert}"),
        title,
        kind: "alert".to_owned(),
        applies_to: vec!["prometheus".to_owned()],
        class: None,
        signatures: Vec::new(),
        body: body.trim().to_owned(),
        layout: Layout::Markdown,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_alert_is_made_of_its_annotations() {
        let text = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata: {name: ci}\nspec:\n  groups:\n  - name: ci\n    \
                    rules:\n    - record: x:y\n      expr: sum(y)\n    - alert: RunnerDown\n      expr: up{job=\"runner\"} == 0\n      for: 5m\n      \
                    labels: {severity: page}\n      annotations:\n        summary: No runner answers\n        description: Restart it.\n        \
                    runbook_url: https://wiki.example.com/runner\n";
        let found = super::documents("ci.yaml", text).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "ci.yaml#RunnerDown");
        insta::assert_snapshot!(found[0].body, @r#"
        # RunnerDown: No runner answers

        ## description
        Restart it.

        ## runbook url
        https://wiki.example.com/runner

        ## Fires when
        ```
        up{job="runner"} == 0
        ``` for 5m

        Labels: severity=page
        "#);
        let none = super::documents("values.yaml", "image: x\n").unwrap_err();
        assert!(none.to_string().contains("no Prometheus alert"));
    }
}
