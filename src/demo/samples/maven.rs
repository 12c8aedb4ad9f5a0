//! Normal Maven output: downloads, compilation, tests and packaging.

use super::writer::Log;

/// Artifacts of one group and version: group path, version, names.
type Family = (&'static str, &'static str, &'static [&'static str]);

const FAMILIES: &[Family] = &[
    (
        "org/springframework",
        "6.1.14",
        &[
            "spring-core",
            "spring-jcl",
            "spring-beans",
            "spring-context",
            "spring-aop",
            "spring-expression",
            "spring-web",
            "spring-webmvc",
            "spring-tx",
            "spring-jdbc",
            "spring-orm",
            "spring-aspects",
            "spring-test",
        ],
    ),
    (
        "org/springframework/boot",
        "3.3.5",
        &[
            "spring-boot",
            "spring-boot-autoconfigure",
            "spring-boot-starter",
            "spring-boot-starter-web",
            "spring-boot-starter-json",
            "spring-boot-starter-tomcat",
            "spring-boot-starter-logging",
            "spring-boot-starter-validation",
            "spring-boot-starter-actuator",
            "spring-boot-actuator",
            "spring-boot-actuator-autoconfigure",
            "spring-boot-starter-data-jpa",
            "spring-boot-starter-test",
            "spring-boot-test",
            "spring-boot-test-autoconfigure",
        ],
    ),
    ("com/fasterxml/jackson/core", "2.17.2", &["jackson-core", "jackson-annotations", "jackson-databind"]),
    ("com/fasterxml/jackson/datatype", "2.17.2", &["jackson-datatype-jdk8", "jackson-datatype-jsr310"]),
    (
        "io/netty",
        "4.1.114.Final",
        &[
            "netty-common",
            "netty-buffer",
            "netty-transport",
            "netty-resolver",
            "netty-codec",
            "netty-codec-http",
            "netty-codec-http2",
            "netty-handler",
            "netty-handler-proxy",
            "netty-resolver-dns",
            "netty-codec-dns",
            "netty-transport-native-unix-common",
        ],
    ),
    (
        "io/micrometer",
        "1.13.6",
        &["micrometer-commons", "micrometer-observation", "micrometer-core", "micrometer-jakarta9"],
    ),
    (
        "org/apache/tomcat/embed",
        "10.1.31",
        &["tomcat-embed-core", "tomcat-embed-el", "tomcat-embed-websocket"],
    ),
    ("org/hibernate/orm", "6.5.3.Final", &["hibernate-core"]),
    ("org/hibernate/validator", "8.0.1.Final", &["hibernate-validator"]),
    ("org/slf4j", "2.0.16", &["slf4j-api", "jul-to-slf4j"]),
    ("ch/qos/logback", "1.5.11", &["logback-core", "logback-classic"]),
    ("org/apache/logging/log4j", "2.23.1", &["log4j-api", "log4j-to-slf4j"]),
    ("com/zaxxer", "5.1.0", &["HikariCP"]),
    ("org/postgresql", "42.7.4", &["postgresql"]),
    ("org/yaml", "2.2", &["snakeyaml"]),
    ("com/google/guava", "33.3.1-jre", &["guava", "guava-parent"]),
    ("com/google/guava", "1.0.2", &["failureaccess"]),
    ("com/google/errorprone", "2.28.0", &["error_prone_annotations", "error_prone_parent"]),
    (
        "org/junit/jupiter",
        "5.10.5",
        &["junit-jupiter", "junit-jupiter-api", "junit-jupiter-params", "junit-jupiter-engine"],
    ),
    (
        "org/junit/platform",
        "1.10.5",
        &["junit-platform-commons", "junit-platform-engine", "junit-platform-launcher"],
    ),
    ("org/mockito", "5.11.0", &["mockito-core", "mockito-junit-jupiter"]),
    ("net/bytebuddy", "1.14.19", &["byte-buddy", "byte-buddy-agent"]),
    ("org/assertj", "3.25.3", &["assertj-core"]),
    ("org/apache/maven/plugins", "3.3.1", &["maven-resources-plugin", "maven-clean-plugin"]),
    ("org/apache/maven/plugins", "3.13.0", &["maven-compiler-plugin"]),
    ("org/apache/maven/plugins", "3.4.2", &["maven-jar-plugin", "maven-source-plugin"]),
    (
        "org/apache/maven/surefire",
        "3.2.5",
        &[
            "maven-surefire-common",
            "surefire-api",
            "surefire-booter",
            "surefire-extensions-api",
            "surefire-logger-api",
            "surefire-junit-platform",
            "common-java5",
        ],
    ),
    (
        "org/codehaus/plexus",
        "4.0.1",
        &["plexus-utils", "plexus-io", "plexus-archiver", "plexus-interpolation"],
    ),
    (
        "org/codehaus/plexus",
        "2.15.0",
        &["plexus-compiler-api", "plexus-compiler-manager", "plexus-compiler-javac"],
    ),
];

const CLASSES: &[&str] = &[
    "Order",
    "Basket",
    "Voucher",
    "Discount",
    "Price",
    "Customer",
    "Address",
    "Shipment",
    "Invoice",
    "Refund",
    "Stock",
    "Catalogue",
    "Currency",
    "TaxRate",
    "Session",
    "Audit",
    "Outbox",
    "Retry",
    "RateLimiter",
    "ErrorHandler",
];
const KINDS: &[&str] =
    &["Mapper", "Repository", "Service", "Controller", "Validator", "Serializer", "Client", "Policy"];

impl Log {
    /// Writes the download of the POM and JAR of every artifact.
    pub(super) fn maven_downloads(&mut self) -> &mut Self {
        for (group, version, names) in FAMILIES {
            for name in *names {
                for kind in ["pom", "jar"] {
                    self.maven_download(&format!("{group}/{name}/{version}/{name}-{version}.{kind}"));
                }
            }
        }
        self
    }

    fn maven_download(&mut self, path: &str) {
        let url = format!("https://maven.example.com/repository/central/{path}");
        let (size, speed) = (self.number(2..1_900), self.number(40..4_800));
        self.line(format!("[INFO] Downloading from central: {url}"));
        if self.number(0..90) == 0 {
            self.line("[WARNING] Retrying (1/3) after a connection reset while transferring from central");
            self.pass(1_500);
        }
        self.line(format!("[INFO] Downloaded from central: {url} ({size} kB at {speed} kB/s)")).pass(60);
    }

    /// Writes the header of a reactor module; `place` is for example `1/9`.
    pub(super) fn maven_module(&mut self, group: &str, name: &str, version: &str, place: &str) -> &mut Self {
        let title = format!("< {group}:{name} >");
        self.line("[INFO] ");
        self.line(format!("[INFO] {title:-^72}"));
        self.line(format!("[INFO] Building {name} {version:<44} [{place}]"));
        self.line(format!("[INFO]   from {name}/pom.xml"));
        self.line("[INFO] --------------------------------[ jar ]---------------------------------")
    }

    /// Writes resources and compilation of a module, with common warnings.
    pub(super) fn maven_compile(&mut self, name: &str) -> &mut Self {
        let (sources, tests) = (self.number(20..160), self.number(10..90));
        self.line("[INFO] ");
        self.line(format!("[INFO] --- resources:3.3.1:resources (default-resources) @ {name} ---"));
        self.line("[INFO] Copying 3 resources from src/main/resources to target/classes");
        self.line("[INFO] ");
        self.line(format!("[INFO] --- compiler:3.13.0:compile (default-compile) @ {name} ---"));
        self.line("[INFO] Recompiling the module because of changed source code.");
        self.line(format!("[INFO] Compiling {sources} source files with javac [debug parameters release 21] to target/classes"));
        for _ in 0..self.number(4..18) {
            let (class, kind) = (self.one_of(CLASSES), self.one_of(KINDS));
            let (line, column) = (self.number(20..400), self.number(5..60));
            self.line(format!("[WARNING] /workspace/source/{name}/src/main/java/com/example/{class}{kind}.java:[{line},{column}] [deprecation] Date(int,int,int) in java.util.Date has been deprecated"));
        }
        self.line("[INFO] ");
        self.line(format!("[INFO] --- compiler:3.13.0:testCompile (default-testCompile) @ {name} ---"));
        self.line(format!("[INFO] Compiling {tests} source files with javac [debug parameters release 21] to target/test-classes"));
        self.pass(9_000)
    }

    /// Writes the start of a module's tests.
    pub(super) fn surefire_begins(&mut self, name: &str) -> &mut Self {
        self.line("[INFO] ");
        self.line(format!("[INFO] --- surefire:3.2.5:test (default-test) @ {name} ---"));
        self.lines(
            "
[INFO] Using auto detected provider org.apache.maven.surefire.junitplatform.JUnitPlatformProvider
[INFO] 
[INFO] -------------------------------------------------------
[INFO]  T E S T S
[INFO] -------------------------------------------------------
",
        )
    }

    /// Writes `classes` passing test classes with log output of the tested code. Returns the number of tests.
    pub(super) fn surefire_passes(&mut self, package: &str, classes: usize) -> u32 {
        let mut total = 0;
        for n in 0..classes {
            let class =
                format!("{}{}Test", CLASSES[n % CLASSES.len()], KINDS[n / CLASSES.len() % KINDS.len()]);
            self.line(format!("[INFO] Running {package}.{class}"));
            for _ in 0..self.number(1..9) {
                self.application_line(package);
            }
            let (tests, millis) = (self.number(2..24), self.number(3..900));
            total += tests;
            self.line(format!("[INFO] Tests run: {tests}, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 0.{millis:03} s -- in {package}.{class}"));
        }
        total
    }

    fn application_line(&mut self, package: &str) {
        let (class, kind, id) = (self.one_of(CLASSES), self.one_of(KINDS), self.number(1_000..99_999));
        let (level, text) = match self.number(0..14) {
            0 => (
                " WARN",
                format!("Call to stub failed (attempt 1 of 3), retrying: Connection reset, id={id}"),
            ),
            1 => (" WARN", format!("Rejecting request {id}: validation failed as expected by the test")),
            2 => ("DEBUG", format!("0 errors, 0 failures recorded for batch {id}")),
            3 => ("DEBUG", format!("Hibernate: select o.id, o.status from orders o where o.id={id}")),
            _ => (" INFO", format!("processed {id} in {} ms", self.number(1..80))),
        };
        let time = self.time_millis();
        self.line(format!(
            "2026-11-20T{time}Z {level} 417 --- [           main] {package}.{class}{kind} : {text}"
        ));
        self.pass(50);
    }

    /// Writes the end of a module whose tests passed.
    pub(super) fn surefire_passed(&mut self, name: &str, tests: u32) -> &mut Self {
        self.lines("\n[INFO] \n[INFO] Results:\n[INFO] ");
        self.line(format!("[INFO] Tests run: {tests}, Failures: 0, Errors: 0, Skipped: 0"));
        self.line("[INFO] ");
        self.line(format!("[INFO] --- jar:3.4.2:jar (default-jar) @ {name} ---"));
        self.line(format!("[INFO] Building jar: /workspace/source/{name}/target/{name}.jar"))
    }

    /// Writes the reactor summary (module name, outcome) of a failed build.
    pub(super) fn maven_summary(&mut self, project: &str, modules: &[(&str, &str)]) -> &mut Self {
        let rule = format!("[INFO] {}", "-".repeat(72));
        self.line(&rule);
        self.line(format!("[INFO] Reactor Summary for {project}:"));
        self.line("[INFO] ");
        for (name, outcome) in modules {
            self.line(format!("[INFO] {:.<52} {outcome}", format!("{name} ")));
        }
        let time = self.time();
        self.line(&rule).line("[INFO] BUILD FAILURE").line(&rule);
        self.line("[INFO] Total time:  06:41 min");
        self.line(format!("[INFO] Finished at: 2026-11-20T{time}Z")).line(&rule)
    }

    /// Writes the advice at the end of a failed build.
    pub(super) fn maven_advice(&mut self, help: &str) -> &mut Self {
        self.lines(
            "
[ERROR] 
[ERROR] To see the full stack trace of the errors, re-run Maven with the -e switch.
[ERROR] Re-run Maven using the -X switch to enable full debug logging.
[ERROR] 
[ERROR] For more information about the errors and possible solutions, please read the following articles:
",
        );
        self.line(format!("[ERROR] [Help 1] http://cwiki.apache.org/confluence/display/MAVEN/{help}"))
    }
}
