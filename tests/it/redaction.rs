//! Secrets in realistic context: none leaks; what only looks like one stays.

use crate::support::fake_model::FakeModel;
use crate::support::{Setup, eventually, pool};
use regreen::evidence::redact::Redactor;
use sqlx::AssertSqlSafe;
use std::process::{Command, Stdio};

/// Placeholders are filled so often, with other characters each time.
const FILLINGS: u64 = 3;

/// The line with its placeholders filled, and what was filled in.
fn fill(line: &str, random: &mut fastrand::Rng) -> (String, Vec<String>) {
    let mut rest = line;
    let (mut text, mut filled) = (String::new(), Vec::new());
    while let Some((before, after)) = rest.split_once('«') {
        let (placeholder, tail) = after.split_once('»').unwrap();
        let (class, length) = placeholder.split_once(':').unwrap();
        let alphabet = match class {
            "a" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "l" => "abcdefghijklmnopqrstuvwxyz0123456789",
            "h" => "0123456789abcdef",
            "u" => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
            "b" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
            "s" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-",
            "d" => "0123456789",
            "p" => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#%^*.-_+",
            "n" => "-",
            other => panic!("{other}"),
        };
        let alphabet: Vec<char> = alphabet.chars().collect();
        // Neither begins nor ends with punctuation: a log line would be cut there by eye, too.
        let length: usize = length.parse().unwrap();
        let value: String = (0..length)
            .map(|at| {
                loop {
                    let c = alphabet[random.usize(..alphabet.len())];
                    if (at > 0 && at + 1 < length) || c.is_ascii_alphanumeric() {
                        break c;
                    }
                }
            })
            .collect();
        text.push_str(before);
        text.push_str(&value);
        filled.push(value);
        rest = tail;
    }
    text.push_str(rest);
    (text.replace('⏎', "\n"), filled)
}

fn corpus(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with("# ") && !line.is_empty())
}

#[test]
fn no_secret_of_the_corpus_leaks() {
    let mut random = fastrand::Rng::with_seed(7);
    let lines: Vec<&str> = corpus(include_str!("../data/secrets.txt")).collect();
    assert!(lines.len() >= 160, "{}", lines.len());
    let mut leaks = Vec::new();
    for line in lines {
        for _ in 0..FILLINGS {
            let (text, secrets) = fill(line, &mut random);
            let redacted = Redactor::new().redact(&text);
            // Short parts are ids of accounts and the like, which may stay.
            let leaked = secrets.iter().any(|secret| secret.len() > 9 && redacted.contains(secret.as_str()));
            if leaked || !redacted.contains("[redacted:") {
                leaks.push(format!("{text}\n  -> {redacted}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

#[test]
fn what_only_looks_like_a_secret_stays() {
    let mut random = fastrand::Rng::with_seed(8);
    let lines: Vec<&str> = corpus(include_str!("../data/look_alikes.txt")).collect();
    let (mut all, mut wrong) = (0, Vec::new());
    for line in lines {
        for _ in 0..FILLINGS {
            let (text, _) = fill(line, &mut random);
            let redacted = Redactor::new().redact(&text);
            all += 1;
            if redacted != text {
                wrong.push(format!("{text}\n  -> {redacted}"));
            }
        }
    }
    assert!(all >= 3 * 230, "{all}");
    assert!(wrong.len() * 50 < all, "{} of {all} are taken for secrets:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn blocks_of_many_lines_go_whole() {
    let begin = |label: &str| format!("-----{} {label}-----", "BEGIN");
    let end = |label: &str| format!("-----{} {label}-----", "END");
    let key = format!(
        "before\n{}\nProc-Type: 4,ENCRYPTED\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n{}\nafter: x\n",
        begin("RSA PRIVATE KEY"),
        end("RSA PRIVATE KEY")
    );
    let redacted = Redactor::new().redact(&key);
    assert!(
        !redacted.contains("MII") && !redacted.contains("hkiG") && redacted.contains("after: x"),
        "{redacted}"
    );
    assert_eq!(redacted.lines().count(), key.lines().count());
    // A log that breaks off within the key.
    let cut = format!("{}\nMIIEvQIBADANBgkq\nstep two begins here\nerror: it failed\n", begin("PRIVATE KEY"));
    let redacted = Redactor::new().redact(&cut);
    assert!(!redacted.contains("MII") && redacted.contains("error: it failed"), "{redacted}");
    for secret in [
        "apiVersion: v1\ndata:\n  password: aHVudGVyMg==\n  user: YWRtaW4=\nkind: Secret\n",
        "kind: Secret\nstringData:\n  password: hunter2hunter2\n",
        "{\n  \"data\": {\n    \"password\": \"aHVudGVyMg==\"\n  },\n  \"kind\": \"Secret\"\n}\n",
    ] {
        let redacted = Redactor::new().redact(secret);
        assert!(
            !redacted.contains("hunter2") && !redacted.contains("aHVudGVyMg") && redacted.contains("kind"),
            "{redacted}"
        );
    }
    let config = "kind: ConfigMap\ndata:\n  level: debug\n  url: http://x.example.com\n";
    assert_eq!(Redactor::new().redact(config), config);
}

#[test]
fn addresses_go_only_when_asked() {
    let text = "Signed-off-by: A. Person <person@example.com>";
    assert_eq!(Redactor::new().redact(text), text);
    assert_eq!(
        Redactor::new().and_emails(true).redact(text),
        "Signed-off-by: A. Person <[redacted:email:1]>"
    );
}

/// All that is stored, as text.
async fn everything(pool: &sqlx::PgPool) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut all = String::new();
    for table in tables {
        let sql = format!("select coalesce(string_agg(t::text, chr(10)), '') from {table} t");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap();
        all.push_str(&rows);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_full_of_secrets_goes_through_the_whole_product_and_none_comes_out() {
    let mut random = fastrand::Rng::with_seed(9);
    let (mut log, mut secrets) = ("$ deploy\n".to_owned(), Vec::new());
    for line in corpus(include_str!("../data/secrets.txt")) {
        let (text, filled) = fill(line, &mut random);
        // As an error, so that it is shown, quoted and filed.
        log.push_str(&format!("error: cannot go on after this line\n{text}\n"));
        secrets.extend(filled.into_iter().filter(|secret| secret.len() > 9));
    }
    log.push_str("error: the deployment failed\nexit status 1\n");
    let model = FakeModel::start(Vec::new()).await;
    let setup = Setup::whole().await.model(&model);
    let failure = regreen::domain::Failure {
        namespace: "ci".into(),
        pod_name: regreen::demo::samples::sample("git-clone").unwrap().pod.into(),
        ..Default::default()
    };
    let pool = pool(&setup.env()["DATABASE_URL"]).await;
    regreen::db::migrations::Migrations::default().run(&pool).await.unwrap();
    let submission = regreen::triage::Submission { failure, log: Some(log), ..Default::default() };
    let intake =
        regreen::triage::intake(&pool, &Default::default(), submission, Default::default()).await.unwrap();
    let regreen::triage::Intake::Accepted(id) = intake else { panic!("{intake:?}") };
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("log");
    let mut worker = Command::new(env!("CARGO_BIN_EXE_regreen"))
        .arg("work")
        .env_clear()
        .envs(setup.env())
        .env("REGREEN_LOG", "trace,sqlx=debug")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let report = eventually("the report ends", async || {
        let report = regreen::db::reports::get(&pool, id).await.unwrap().unwrap();
        report.status.is_final().then_some(report)
    })
    .await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(report.status, regreen::domain::ReportStatus::Done, "{:?}", report.error);
    let said = std::fs::read_to_string(said).unwrap();
    assert!(said.len() > 10_000, "the log is not that of a whole run: {said}");
    let places = [
        ("the model", format!("{:?}", model.requests())),
        ("the issue", format!("{:?}", setup.forge().issues())),
        ("the database", everything(&pool).await),
        ("the log", said),
    ];
    for (place, text) in &places {
        let leaked: Vec<&String> = secrets.iter().filter(|secret| text.contains(secret.as_str())).collect();
        assert!(leaked.is_empty(), "{place} has {} of {} secrets: {leaked:?}", leaked.len(), secrets.len());
    }
    assert!(places[0].1.contains("[redacted:"), "the model was shown the placeholders");
}
