//! Steps that check code and find something.

use super::builds::started_events;
use super::writer::Log;
use super::{NAMESPACE, Sample};
use crate::domain::FailureClass;

pub(super) fn surefire() -> Sample {
    let mut log = Log::new(3);
    log.clone("shop/pricing").line("+ mvn -B test").maven_downloads(2_400);
    log.lines(
        "
[INFO] -------------------------------------------------------
[INFO]  T E S T S
[INFO] -------------------------------------------------------
",
    );
    for n in 0..220 {
        log.line(&format!("[INFO] Running com.example.pricing.Rule{n:03}Test"));
        log.line(&format!(
            "[INFO] Tests run: 12, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.{:03} s",
            n * 7 % 999
        ));
    }
    log.lines(
        r"
[INFO] Running com.example.pricing.DiscountCalculatorTest
[ERROR] Tests run: 9, Failures: 1, Errors: 0, Skipped: 0, Time elapsed: 0.412 s <<< FAILURE! -- in com.example.pricing.DiscountCalculatorTest
[ERROR] com.example.pricing.DiscountCalculatorTest.appliesVoucherOnce -- Time elapsed: 0.031 s <<< FAILURE!
org.opentest4j.AssertionFailedError: expected: <90.00> but was: <81.00>
	at org.junit.jupiter.api.AssertionFailureBuilder.build(AssertionFailureBuilder.java:151)
	at org.junit.jupiter.api.AssertEquals.assertEquals(AssertEquals.java:182)
	at com.example.pricing.DiscountCalculatorTest.appliesVoucherOnce(DiscountCalculatorTest.java:74)
	at java.base/java.lang.reflect.Method.invoke(Method.java:580)
",
    );
    for n in 0..80 {
        log.line(&format!("[INFO] Running com.example.pricing.Tax{n:03}Test"));
        log.line("[INFO] Tests run: 6, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.021 s");
    }
    log.lines(
        r"
[INFO] Results:
[INFO]
[ERROR] Failures:
[ERROR]   DiscountCalculatorTest.appliesVoucherOnce:74 expected: <90.00> but was: <81.00>
[INFO]
[ERROR] Tests run: 3129, Failures: 1, Errors: 0, Skipped: 0
[INFO] BUILD FAILURE
[ERROR] Failed to execute goal org.apache.maven.plugins:maven-surefire-plugin:3.2.5:test (default-test) on project pricing: There are test failures.
",
    );
    log.cleanup(25);
    base("failing-tests", "A unit test fails", "pricing-ci-h4t8m-unit-tests-pod", "step-test", log.done())
        .with("pricing-ci", &["DiscountCalculatorTest.appliesVoucherOnce"], FailureClass::Test)
}

pub(super) fn python_import() -> Sample {
    let mut log = Log::new(4);
    log.clone("data/forecast").line("+ pip install -r requirements.txt");
    for n in 0..160 {
        log.line(&format!("Collecting package-{n:03}==1.{}.0", n % 9));
        log.line(&format!(
            "  Downloading https://pypi.example.com/packages/package_{n:03}-1.{}.0-py3-none-any.whl (14 kB)",
            n % 9
        ));
    }
    log.line("+ pytest -v --tb=short").tests_passing(320);
    log.lines(
        r#"
==================================== ERRORS ====================================
___________________ ERROR collecting tests/test_seasonal.py ____________________
ImportError while importing test module '/workspace/source/tests/test_seasonal.py'.
Hint: make sure your test modules/packages have valid Python names.
Traceback:
/usr/lib/python3.12/importlib/__init__.py:90: in import_module
    return _bootstrap._gcd_import(name[level:], package, level)
tests/test_seasonal.py:4: in <module>
    from forecast.seasonal import decompose
forecast/seasonal.py:3: in <module>
    import statsmodels.api as sm
E   ModuleNotFoundError: No module named 'statsmodels'
=========================== short test summary info ============================
ERROR tests/test_seasonal.py
!!!!!!!!!!!!!!!!!!!! Interrupted: 1 error during collection !!!!!!!!!!!!!!!!!!!!
========================= 320 passed, 1 error in 9.41s =========================
"#,
    );
    base(
        "python-import",
        "A Python module is missing",
        "forecast-ci-b6n2v-pytest-pod",
        "step-pytest",
        log.done(),
    )
    .with("forecast-ci", &["statsmodels"], FailureClass::Dependency)
}

pub(super) fn go_vet() -> Sample {
    let mut log = Log::new(5);
    log.clone("infra/operator").line("+ go mod download");
    for n in 0..210 {
        log.line(&format!("go: downloading k8s.io/component-{n:03} v0.34.{}", n % 5));
    }
    log.line("+ go build ./...").line("+ go vet ./...");
    log.lines(
        "
# example.com/infra/operator/internal/controller
# [example.com/infra/operator/internal/controller]
internal/controller/reconcile.go:117:4: fmt.Errorf format %w has arg name of wrong type string
internal/controller/status.go:63:2: unreachable code
",
    );
    log.line("+ report-metrics --ok-on-error").cleanup(30);
    base("go-vet", "go vet finds a mistake", "operator-ci-m3c7d-vet-pod", "step-vet", log.done()).with(
        "operator-ci",
        &["internal/controller/reconcile.go:117"],
        FailureClass::Code,
    )
}

/// A pod that ran and ended with exit code 1.
pub(super) fn base(
    slug: &'static str,
    title: &'static str,
    pod: &'static str,
    container: &'static str,
    log: String,
) -> Sample {
    Sample {
        slug,
        title,
        namespace: NAMESPACE,
        pod,
        container,
        pipeline: "",
        reason: "Error",
        exit_code: 1,
        started: true,
        log,
        previous_log: None,
        events: started_events(),
        cause_words: &[],
        class: FailureClass::Unknown,
    }
}

impl Sample {
    /// Fills in what a right diagnosis says.
    pub(super) fn with(
        mut self,
        pipeline: &'static str,
        words: &'static [&'static str],
        class: FailureClass,
    ) -> Self {
        (self.pipeline, self.cause_words, self.class) = (pipeline, words, class);
        self
    }
}
