//! Builds that do not come to their end: a dependency, a compiler.

use super::writer::Log;
use super::{NAMESPACE, Sample};
use crate::domain::FailureClass;

pub(super) fn maven_dependency() -> Sample {
    let mut log = Log::new(1);
    log.clone("shop/checkout")
        .line("+ mvn -B -ntp=false --fail-at-end verify")
        .line("[INFO] Scanning for projects...");
    log.maven_downloads(6_000);
    log.line(
        "[WARNING] The requested profile \"error-reports\" could not be activated because it does not exist.",
    );
    log.lines(
        r"
[INFO] ------------------------------------------------------------------------
[INFO] Reactor Summary for checkout 3.4.0-SNAPSHOT:
[INFO]
[INFO] checkout-api ....................................... SUCCESS [ 14.302 s]
[INFO] checkout-service ................................... FAILURE [  2.118 s]
[INFO] checkout-it ........................................ SKIPPED
[INFO] ------------------------------------------------------------------------
[INFO] BUILD FAILURE
[INFO] ------------------------------------------------------------------------
[INFO] Total time:  01:12 min
[ERROR] Failed to execute goal on project checkout-service: Could not resolve dependencies for project com.example.shop:checkout-service:jar:3.4.0-SNAPSHOT: Could not find artifact com.example.shop:payment-client:jar:7.2.1 in central (https://maven.example.com/maven2) -> [Help 1]
[ERROR]
[ERROR] To see the full stack trace of the errors, re-run Maven with the -e switch.
[ERROR] Re-run Maven using the -X switch to enable full debug logging.
[ERROR]
[ERROR] For more information about the errors and possible solutions, please read the following articles:
[ERROR] [Help 1] http://cwiki.apache.org/confluence/display/MAVEN/DependencyResolutionException
",
    );
    log.line("+ upload-reports --quiet").cleanup(180).line("upload-reports: 0 errors");
    Sample {
        slug: "maven-dependency",
        title: "Maven cannot find an artifact",
        namespace: NAMESPACE,
        pod: "checkout-build-x7k2p-verify-pod",
        container: "step-maven",
        pipeline: "checkout-build",
        reason: "Error",
        exit_code: 1,
        started: true,
        log: log.done(),
        previous_log: None,
        events: started_events(),
        cause_words: &["com.example.shop:payment-client:jar:7.2.1"],
        class: FailureClass::Dependency,
    }
}

pub(super) fn rust_compile() -> Sample {
    let mut log = Log::new(2);
    log.clone("edge/gateway").line("+ cargo build --release --locked").cargo_compiling(420);
    log.lines(
        r#"
warning: unused variable: `error_count`
  --> crates/metrics/src/lib.rs:88:9
   |
88 |     let error_count = 0;
   |         ^^^^^^^^^^^ help: if this is intentional, prefix it with an underscore: `_error_count`
   |
   = note: `#[warn(unused_variables)]` on by default

warning: `metrics` (lib) generated 1 warning
"#,
    );
    log.cargo_compiling(60);
    log.lines(
        r"
error[E0308]: mismatched types
   --> crates/router/src/table.rs:214:31
    |
212 |     pub fn weight(&self, route: &Route) -> u32 {
    |                                            --- expected `u32` because of return type
213 |         let base = self.base.get(&route.id);
214 |         base.map(|entry| entry.weight)
    |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ expected `u32`, found `Option<u32>`
    |
    = note: expected type `u32`
               found enum `Option<u32>`
help: consider using `Option::expect` to unwrap the `Option<u32>` value, panicking if the value is an `Option::None`
    |
214 |         base.map(|entry| entry.weight).expect(REASON)
    |                                       +++++++++++++++++

For more information about this error, try `rustc --explain E0308`.
error: could not compile `router` (lib) due to 1 previous error
warning: build failed, waiting for other jobs to finish...
",
    );
    log.cargo_compiling(12).cleanup(40);
    Sample {
        slug: "compile-error",
        title: "Rust code does not compile",
        namespace: NAMESPACE,
        pod: "gateway-build-q9w4z-compile-pod",
        container: "step-cargo",
        pipeline: "gateway-build",
        reason: "Error",
        exit_code: 101,
        started: true,
        log: log.done(),
        previous_log: None,
        events: started_events(),
        cause_words: &["E0308", "mismatched types"],
        class: FailureClass::Code,
    }
}

/// What the cluster says of any pod that ran.
pub(super) fn started_events() -> Vec<(&'static str, &'static str, String)> {
    vec![
        ("Normal", "Scheduled", "Successfully assigned pod to worker-3".to_owned()),
        (
            "Normal",
            "Pulled",
            "Container image \"registry.example.com/ci/builder:2026.11\" already present on machine"
                .to_owned(),
        ),
        ("Normal", "Started", "Started container".to_owned()),
    ]
}
