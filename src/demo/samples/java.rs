//! Maven failures: an unpublished artifact, and a failing test.

use super::Sample;
use super::writer::Log;
use crate::domain::FailureClass;

const IMAGE: &str = "registry.example.com/ci/maven:3.9.9-temurin-21";

/// Output of the test class with the failing assertion.
const FAILURE: &str = r#"
[INFO] Running com.example.pricing.DiscountCalculatorTest
[ERROR] Tests run: 9, Failures: 1, Errors: 0, Skipped: 0, Time elapsed: 0.412 s <<< FAILURE! -- in com.example.pricing.DiscountCalculatorTest
[ERROR] com.example.pricing.DiscountCalculatorTest.appliesVoucherOnce -- Time elapsed: 0.031 s <<< FAILURE!
org.opentest4j.AssertionFailedError: expected: <90.00> but was: <81.00>
	at org.junit.jupiter.api.AssertionFailureBuilder.build(AssertionFailureBuilder.java:151)
	at org.junit.jupiter.api.AssertionFailureBuilder.buildAndThrow(AssertionFailureBuilder.java:132)
	at org.junit.jupiter.api.AssertEquals.failNotEqual(AssertEquals.java:197)
	at org.junit.jupiter.api.AssertEquals.assertEquals(AssertEquals.java:182)
	at org.junit.jupiter.api.Assertions.assertEquals(Assertions.java:1145)
	at com.example.pricing.DiscountCalculatorTest.appliesVoucherOnce(DiscountCalculatorTest.java:74)
	at java.base/java.lang.reflect.Method.invoke(Method.java:580)
	at java.base/java.util.ArrayList.forEach(ArrayList.java:1596)
	at java.base/java.util.ArrayList.forEach(ArrayList.java:1596)

"#;

/// A reactor build whose module needs an artifact missing from the repository.
pub(super) fn missing_artifact() -> Sample {
    const VERSION: &str = "3.4.0-SNAPSHOT";
    let mut log = Log::new(1);
    log.checkout("shop/checkout")
        .line("+ mvn --batch-mode --fail-at-end --settings /workspace/maven-settings/settings.xml verify")
        .line("[INFO] Scanning for projects...")
        .line("[WARNING] The requested profile \"error-reports\" could not be activated because it does not exist.");
    log.maven_downloads();
    let modules = [
        "checkout-parent",
        "checkout-api",
        "checkout-basket",
        "checkout-voucher",
        "checkout-shipping",
        "checkout-refund",
        "checkout-service",
        "checkout-web",
        "checkout-it",
    ];
    for (position, name) in modules[..6].iter().enumerate() {
        log.maven_module("com.example.shop", name, VERSION, &format!("{}/{}", position + 1, modules.len()));
        if position > 0 {
            let package = format!("com.example.shop.{}", name.trim_start_matches("checkout-"));
            log.maven_compile(name).surefire_begins(name);
            let tests = log.surefire_passes(&package, 150);
            log.surefire_passed(name, tests);
        }
    }
    log.maven_module("com.example.shop", "checkout-service", VERSION, &format!("7/{}", modules.len()));
    log.line("[INFO] Downloading from central: https://maven.example.com/repository/central/com/example/shop/payment-client/7.2.1/payment-client-7.2.1.pom");
    log.line("[WARNING] The POM for com.example.shop:payment-client:jar:7.2.1 is missing, no dependency information available");
    log.line("[INFO] Downloading from central: https://maven.example.com/repository/central/com/example/shop/payment-client/7.2.1/payment-client-7.2.1.jar");
    let outcome = |name: &&'static str| match *name {
        "checkout-service" => (*name, "FAILURE [  2.118 s]"),
        "checkout-web" | "checkout-it" => (*name, "SKIPPED"),
        _ => (*name, "SUCCESS [ 41.302 s]"),
    };
    log.maven_summary("checkout-parent 3.4.0-SNAPSHOT", &modules.iter().map(outcome).collect::<Vec<_>>());
    log.line("[ERROR] Failed to execute goal on project checkout-service: Could not resolve dependencies for project com.example.shop:checkout-service:jar:3.4.0-SNAPSHOT: Could not find artifact com.example.shop:payment-client:jar:7.2.1 in central (https://maven.example.com/repository/central) -> [Help 1]");
    log.maven_advice("DependencyResolutionException")
        .line("[ERROR] ")
        .line("[ERROR] After correcting the problems, you can resume the build with the command")
        .line("[ERROR]   mvn <args> -rf :checkout-service");
    log.line("+ publish-test-reports --if-present --quiet")
        .line("publish-test-reports: 750 reports, 0 errors");
    for module in &modules[1..6] {
        log.line(format!("publish-test-reports: {module}/target/surefire-reports uploaded"));
    }
    Sample {
        slug: "maven-dependency",
        title: "Maven cannot find an artifact",
        pod: "checkout-build-x7k2p-verify-pod",
        container: "step-maven",
        image: IMAGE,
        memory: "4Gi",
        pipeline: "checkout-build",
        task: "verify",
        cause_words: &["com.example.shop:payment-client:jar:7.2.1"],
        class: FailureClass::Dependency,
        ..Sample::failed(log)
    }
}

/// One failing assertion among three thousand tests.
pub(super) fn failing_tests() -> Sample {
    let mut log = Log::new(3);
    log.checkout("shop/pricing")
        .line("+ mvn --batch-mode --no-transfer-progress test")
        .line("[INFO] Scanning for projects...");
    log.maven_module("com.example", "pricing", "1.9.2-SNAPSHOT", "1/1").maven_compile("pricing");
    log.surefire_begins("pricing");
    let before = log.surefire_passes("com.example.pricing", 160);
    log.lines(FAILURE);
    let after = log.surefire_passes("com.example.pricing.tax", 150)
        + log.surefire_passes("com.example.pricing.export", 140);
    log.lines(
        "
[INFO] 
[INFO] Results:
[INFO] 
[ERROR] Failures: 
[ERROR]   DiscountCalculatorTest.appliesVoucherOnce:74 expected: <90.00> but was: <81.00>
[INFO] 
",
    );
    log.line(format!("[ERROR] Tests run: {}, Failures: 1, Errors: 0, Skipped: 0", before + 9 + after));
    log.line("[INFO] ").maven_summary("pricing 1.9.2-SNAPSHOT", &[("pricing", "FAILURE [ 48.770 s]")]);
    log.lines(
        "
[ERROR] Failed to execute goal org.apache.maven.plugins:maven-surefire-plugin:3.2.5:test (default-test) on project pricing: There are test failures.
[ERROR] 
[ERROR] See /workspace/source/target/surefire-reports for the individual test results.
[ERROR] See dump files (if any exist) [date].dump, [date]-jvmRun[N].dump and [date].dumpstream.
[ERROR] -> [Help 1]
",
    );
    log.maven_advice("MojoFailureException").line("+ rm -rf /workspace/source/target/tmp");
    Sample {
        slug: "failing-tests",
        title: "A unit test fails",
        pod: "pricing-ci-h4t8m-unit-tests-pod",
        container: "step-test",
        image: IMAGE,
        memory: "3Gi",
        pipeline: "pricing-ci",
        task: "unit-tests",
        cause_words: &["DiscountCalculatorTest.appliesVoucherOnce"],
        class: FailureClass::Test,
        ..Sample::failed(log)
    }
}
