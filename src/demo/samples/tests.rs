//! Tests of all samples.

use super::*;

const LONG: std::ops::RangeInclusive<usize> = 200..=20_000;

fn lines(sample: &Sample) -> usize {
    sample.log.lines().count()
}

#[test]
fn logs_are_as_long_as_real_ones() {
    let all = samples();
    assert!(all.len() >= 12);
    for sample in all.iter().filter(|sample| sample.started) {
        assert!(LONG.contains(&lines(sample)), "{}: {} lines", sample.slug, lines(sample));
    }
    assert!(all.iter().any(|sample| lines(sample) > 19_000));
    assert!(all.iter().filter(|sample| (3_000..8_000).contains(&lines(sample))).count() >= 3);
}

#[test]
fn the_same_at_every_start() {
    assert_eq!(samples(), samples());
}

#[test]
fn each_holds_its_cause() {
    for sample in samples() {
        let shown = format!("{} {:?} {}", sample.log, sample.event_list(), sample.manifest());
        for word in sample.cause_words {
            assert!(shown.contains(word), "{}: nothing says {word}", sample.slug);
        }
        assert!(!sample.cause_words.is_empty(), "{}", sample.slug);
        assert_ne!(sample.class, FailureClass::Unknown, "{}", sample.slug);
    }
}

#[test]
fn names_are_unique_and_belong_together() {
    let all = samples();
    let unique =
        |name: fn(&Sample) -> &str| all.iter().map(name).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(unique(|sample| sample.slug), all.len());
    assert_eq!(unique(|sample| sample.pod), all.len());
    for found in &all {
        assert!(found.pod.starts_with(found.pipeline), "{}", found.pod);
        assert!(found.pod.ends_with(&format!("-{}-pod", found.task)), "{}", found.pod);
        assert_eq!(sample(found.slug).as_ref(), Some(found));
    }
    assert_eq!(sample("no-such"), None);
}

#[test]
fn logs_look_like_those_of_terminals() {
    let all = samples();
    let have = |part: &str| all.iter().filter(|sample| sample.log.contains(part)).count();
    assert!(have("\u{1b}[") >= 2, "colours");
    assert!(have("\r") >= 5, "progress");
    assert!(have("0 errors") >= 5, "lines that only look like the cause");
    assert!(have("etry") >= 5, "retries");
}

#[test]
fn two_logs_carry_secrets() {
    let holds = |slug: &str, secret: &[&str]| sample(slug).expect("exists").log.contains(&secret.concat());
    assert!(holds("registry-auth", &["=gh", "p_Zk3v9QhX2m"]));
    assert!(holds("git-clone", &["://ci-bot", ":Tr0ub4dor-horse-staple@"]));
}

#[test]
fn a_pod_names_its_failed_container() {
    let oom = sample("oom").expect("exists").manifest();
    let status = &oom["status"]["containerStatuses"][0];
    assert_eq!(status["name"], "step-import");
    assert_eq!(status["state"]["terminated"]["exitCode"], 137);
    assert_eq!(status["state"]["terminated"]["reason"], "OOMKilled");
    assert_eq!(oom["metadata"]["labels"]["tekton.dev/pipelineRun"], "importer-nightly-t5j9k");
    let pull = sample("image-pull").expect("exists").manifest();
    assert_eq!(pull["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "ImagePullBackOff");
}

#[test]
fn a_container_without_a_log_says_why() {
    let pull = sample("image-pull").expect("exists");
    let mut oom = sample("oom").expect("exists");
    assert!(pull.log_of("step-lint", false).is_err_and(|why| why.contains("is waiting to start")));
    assert!(oom.log_of("step-import", true).is_err_and(|why| why.contains("previous terminated container")));
    assert!(oom.log_of("sidecar", false).is_err_and(|why| why.contains("is not valid for pod")));
    assert!(oom.log_of("prepare", false).is_ok());
    oom.previous_log = Some("before".to_owned());
    assert_eq!(oom.log_of("step-import", true), Ok("before"));
}
