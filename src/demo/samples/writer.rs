//! Writes the noise that real tools make around a failure, from a fixed seed.

use fastrand::Rng;
use std::fmt::Write as _;

const PACKAGES: &[&str] = &[
    "commons-codec",
    "jackson-core",
    "jackson-databind",
    "slf4j-api",
    "logback-classic",
    "guava",
    "netty-buffer",
    "netty-codec-http",
    "spring-core",
    "spring-beans",
    "spring-context",
    "error-prone-annotations",
    "failureaccess",
    "snakeyaml",
    "byte-buddy",
    "mockito-core",
    "assertj-core",
    "hibernate-validator",
    "tomcat-embed-core",
    "micrometer-core",
];
const CRATES: &[&str] = &[
    "serde",
    "serde_derive",
    "tokio",
    "hyper",
    "tower",
    "thiserror",
    "thiserror-impl",
    "anyhow",
    "tracing",
    "error-chain",
    "failure",
    "regex",
    "rustls",
    "ring",
    "bytes",
    "futures-util",
    "http",
    "indexmap",
    "hashbrown",
    "proc-macro2",
];

/// A log being written.
pub(super) struct Log {
    text: String,
    rng: Rng,
    second: u32,
}

impl Log {
    pub(super) fn new(seed: u64) -> Self {
        Self { text: String::new(), rng: Rng::with_seed(seed), second: 33_124 }
    }

    pub(super) fn line(&mut self, line: &str) -> &mut Self {
        self.text.push_str(line);
        self.text.push('\n');
        self
    }

    pub(super) fn lines(&mut self, block: &str) -> &mut Self {
        block.trim_matches('\n').lines().for_each(|line| {
            self.line(line);
        });
        self
    }

    fn clock(&mut self) -> String {
        self.second += self.rng.u32(0..3);
        format!("{:02}:{:02}:{:02}", self.second / 3600, self.second / 60 % 60, self.second % 60)
    }

    pub(super) fn clone(&mut self, repository: &str) -> &mut Self {
        let sha: String = (0..40).map(|_| char::from_digit(self.rng.u32(0..16), 16).unwrap_or('0')).collect();
        self.line(&format!("+ git clone --depth 1 https://git.example.com/{repository}.git ."));
        self.line("Cloning into '.'...");
        for percent in (0..=100).step_by(5) {
            let _ = write!(self.text, "Receiving objects: {percent:>3}% ({percent}/100)\r");
        }
        self.line("Receiving objects: 100% (100/100), 1.42 MiB | 11.20 MiB/s, done.");
        self.line(&format!("HEAD is now at {} Merge pull request", &sha[..9]))
    }

    pub(super) fn maven_downloads(&mut self, count: usize) -> &mut Self {
        for n in 0..count / 2 {
            let package = PACKAGES[self.rng.usize(0..PACKAGES.len())];
            let (minor, patch) = (self.rng.u32(0..20), self.rng.u32(0..9));
            let kind = if n % 2 == 0 { "pom" } else { "jar" };
            let path = format!("org/example/{package}/2.{minor}.{patch}/{package}-2.{minor}.{patch}.{kind}");
            let size = self.rng.u32(2..900);
            self.line(&format!("[INFO] Downloading from central: https://maven.example.com/maven2/{path}"));
            self.line(&format!("[INFO] Downloaded from central: https://maven.example.com/maven2/{path} ({size} kB at 3.1 MB/s)"));
        }
        self
    }

    pub(super) fn cargo_compiling(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            let name = CRATES[self.rng.usize(0..CRATES.len())];
            let version = format!("{}.{}.{}", self.rng.u32(0..3), self.rng.u32(0..40), self.rng.u32(0..12));
            self.line(&format!("\u{1b}[1m\u{1b}[32m   Compiling\u{1b}[0m {name} v{version}"));
        }
        self
    }

    pub(super) fn tests_passing(&mut self, count: usize) -> &mut Self {
        for n in 0..count {
            let part = PACKAGES[self.rng.usize(0..PACKAGES.len())].replace('-', "_");
            let time = self.rng.u32(1..900);
            self.line(&format!(
                "tests/test_{part}.py::test_case_{n:04} PASSED [{:>3}%] {time}ms",
                n * 100 / count
            ));
        }
        self
    }

    pub(super) fn service_log(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            let time = self.clock();
            let (id, ms) = (self.rng.u32(1000..9999), self.rng.u32(2..180));
            let text = match self.rng.u32(0..12) {
                0 => format!("{time} WARN  retrying request {id} (attempt 1 of 3): connection reset by peer"),
                1 => format!("{time} DEBUG cache miss for key order:{id}"),
                2 => format!("{time} INFO  health: 0 errors, 0 failures in the last minute"),
                _ => format!("{time} INFO  handled request {id} in {ms} ms"),
            };
            self.line(&text);
        }
        self
    }

    pub(super) fn image_layers(&mut self, count: usize) -> &mut Self {
        for n in 0..count {
            let digest: String =
                (0..64).map(|_| char::from_digit(self.rng.u32(0..16), 16).unwrap_or('0')).collect();
            match n % 3 {
                0 => self.line(&format!("Copying blob sha256:{digest}")),
                1 => self.line(&format!("Copying config sha256:{digest}")),
                _ => self.line(&format!(
                    "STEP {}/{}: RUN install -D build/part-{n} /opt/app/part-{n}",
                    n / 3 + 1,
                    count / 3 + 1
                )),
            };
        }
        self
    }

    pub(super) fn npm_install(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            let package = PACKAGES[self.rng.usize(0..PACKAGES.len())];
            let ms = self.rng.u32(5..400);
            self.line(&format!(
                "npm http fetch GET 200 https://npm.example.com/{package} {ms}ms (cache miss)"
            ));
        }
        self.line("npm warn deprecated glob@7.2.3: Glob versions prior to v9 are no longer supported")
    }

    pub(super) fn cleanup(&mut self, count: usize) -> &mut Self {
        for n in 0..count {
            self.line(&format!("cleanup: removed /workspace/.cache/entry-{n:05}"));
        }
        self
    }

    pub(super) fn done(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}
