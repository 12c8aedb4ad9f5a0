//! A clone whose submodule rejects the credentials.

use super::Sample;
use super::writer::Log;
use crate::domain::FailureClass;

const SUBMODULES: &[&str] = &[
    "accounts",
    "api-definitions",
    "audit-log",
    "backoffice",
    "batch-runner",
    "cards",
    "charts",
    "clearing",
    "cli",
    "compliance",
    "config-schema",
    "currency",
    "customers",
    "dashboards",
    "disputes",
    "docs",
    "e2e",
    "errors",
    "events",
    "exports",
    "fees",
    "fixtures",
    "fraud-rules",
    "gateway",
    "holidays",
    "identity",
    "imports",
    "interest",
    "invoices",
    "java-commons",
    "journal",
    "kafka-topics",
    "keycloak-theme",
    "limits",
    "loans",
    "mail-templates",
    "migrations",
    "mocks",
    "monitoring",
    "notifications",
    "onboarding",
    "openapi-tools",
    "payouts",
    "policies",
    "pricing",
    "proto",
    "reconciliation",
    "refunds",
    "reports",
    "risk",
    "runbooks",
    "sandbox",
    "scheduler",
    "sepa",
    "statements",
    "swift",
    "tax",
    "terraform",
    "ui-kit",
    "webhooks",
];

/// The machine account's token has no access to one private repository.
pub(super) fn bad_credentials() -> Sample {
    let mut log = Log::new(11);
    // Concatenated, so that the source contains nothing that looks like a credential.
    let user = ["ci-bot", "Tr0ub4dor-horse-staple"].join(":");
    log.line("+ git config --global --add safe.directory /workspace/output");
    log.checkout("bank/platform").line("+ git submodule sync --recursive");
    for name in SUBMODULES {
        log.line(format!("Synchronizing submodule url for 'modules/{name}'"));
    }
    log.line("+ git submodule update --init --recursive --depth 1");
    for name in SUBMODULES {
        log.line(format!("Submodule 'modules/{name}' (https://git.example.com/bank/{name}.git) registered for path 'modules/{name}'"));
    }
    for (position, name) in SUBMODULES.iter().enumerate() {
        log.pass(2_000).line(format!("Cloning into '/workspace/output/modules/{name}'..."));
        if position == 23 {
            log.line("warning: redirecting to https://git.example.com/bank/gateway.git/");
        }
        let sha = log.hex(40);
        log.line(format!("Submodule path 'modules/{name}': checked out '{sha}'"));
    }
    log.line(format!(
        "+ git fetch --depth=1 https://{user}@git.example.com/vault/ledger.git refs/heads/main"
    ));
    log.lines(
        "
remote: HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or you're required to use a token instead of a password.
fatal: Authentication failed for 'https://git.example.com/vault/ledger.git/'
{\"level\":\"error\",\"ts\":1795166052.4127,\"caller\":\"git/git.go:55\",\"msg\":\"Error running git [fetch --depth=1 ledger main]: exit status 128\",\"stacktrace\":\"git.run\\n\\tgit/git.go:55\\ngit.Fetch\\n\\tgit/git.go:188\\nmain.main\\n\\tgit-init/main.go:53\"}
{\"level\":\"info\",\"ts\":1795166052.5003,\"caller\":\"git-init/main.go:71\",\"msg\":\"Removing partial checkout\"}
2026/11/20 09:14:12 Skipping step because a previous step failed
",
    );
    Sample {
        slug: "git-clone",
        title: "Git refuses the credentials",
        pod: "ledger-release-k6v1n-fetch-source-pod",
        container: "step-clone",
        image: "registry.example.com/tekton/git-init:v0.45.0",
        memory: "512Mi",
        pipeline: "ledger-release",
        task: "fetch-source",
        cause_words: &["https://git.example.com/vault/ledger.git"],
        class: FailureClass::Configuration,
        ..Sample::failed(log)
    }
}
