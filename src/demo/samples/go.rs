//! Go failures: a `go vet` error, and a module proxy whose name does not resolve.

use super::Sample;
use super::writer::Log;
use crate::domain::FailureClass;

const IMAGE: &str = "registry.example.com/ci/golang:1.23-bookworm";

/// Modules of a Kubernetes operator, with versions.
const MODULES: &str = "k8s.io/api v0.31.3|k8s.io/apimachinery v0.31.3|k8s.io/client-go v0.31.3|k8s.io/apiextensions-apiserver v0.31.3|\
k8s.io/component-base v0.31.3|k8s.io/klog/v2 v2.130.1|k8s.io/utils v0.0.0-20241104163129-6fe5fd82f078|k8s.io/kube-openapi v0.0.0-20240903163716-9e1beecbcb38|\
sigs.k8s.io/controller-runtime v0.19.2|sigs.k8s.io/yaml v1.4.0|sigs.k8s.io/structured-merge-diff/v4 v4.4.2|sigs.k8s.io/json v0.0.0-20241014173422-cfa47c3a1cc8|\
github.com/go-logr/logr v1.4.2|github.com/go-logr/zapr v1.3.0|github.com/prometheus/client_golang v1.20.5|github.com/prometheus/common v0.60.1|\
github.com/prometheus/procfs v0.15.1|github.com/prometheus/client_model v0.6.1|github.com/spf13/pflag v1.0.5|github.com/spf13/cobra v1.8.1|\
github.com/stretchr/testify v1.10.0|github.com/davecgh/go-spew v1.1.1|github.com/pmezard/go-difflib v1.0.0|github.com/onsi/ginkgo/v2 v2.21.0|\
github.com/onsi/gomega v1.35.1|github.com/google/go-cmp v0.6.0|github.com/google/gofuzz v1.2.0|github.com/google/uuid v1.6.0|\
github.com/google/gnostic-models v0.6.8|github.com/evanphx/json-patch/v5 v5.9.0|github.com/emicklei/go-restful/v3 v3.12.1|github.com/fsnotify/fsnotify v1.8.0|\
github.com/fxamacker/cbor/v2 v2.7.0|github.com/x448/float16 v0.8.4|github.com/gogo/protobuf v1.3.2|github.com/golang/groupcache v0.0.0-20210331224755-41bb18bfe9da|\
github.com/golang/protobuf v1.5.4|github.com/imdario/mergo v0.3.16|github.com/josharian/intern v1.0.0|github.com/json-iterator/go v1.1.12|\
github.com/mailru/easyjson v0.7.7|github.com/modern-go/concurrent v0.0.0-20180306012644-bacd9c7ef1dd|github.com/modern-go/reflect2 v1.0.2|github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822|\
github.com/pkg/errors v0.9.1|github.com/hashicorp/errwrap v1.1.0|github.com/hashicorp/go-multierror v1.1.1|github.com/beorn7/perks v1.0.1|\
github.com/cespare/xxhash/v2 v2.3.0|github.com/klauspost/compress v1.17.11|go.uber.org/zap v1.27.0|go.uber.org/multierr v1.11.0|\
golang.org/x/exp v0.0.0-20241108190413-2d47ceb2692f|golang.org/x/net v0.31.0|golang.org/x/oauth2 v0.24.0|golang.org/x/sync v0.9.0|\
golang.org/x/sys v0.27.0|golang.org/x/term v0.26.0|golang.org/x/text v0.20.0|golang.org/x/time v0.8.0|golang.org/x/tools v0.27.0|\
gomodules.xyz/jsonpatch/v2 v2.4.0|google.golang.org/protobuf v1.35.2|google.golang.org/grpc v1.68.0|gopkg.in/inf.v0 v0.9.1|gopkg.in/yaml.v3 v3.0.1|gopkg.in/evanphx/json-patch.v4 v4.12.0";
const PACKAGES: &[&str] = &[
    "api/v1alpha1",
    "api/v1beta1",
    "cmd/manager",
    "internal/controller",
    "internal/webhook",
    "internal/metrics",
    "internal/cache",
    "internal/diff",
    "internal/errors",
    "internal/leader",
    "internal/queue",
    "internal/render",
    "internal/retry",
    "internal/schedule",
    "internal/status",
    "internal/tls",
    "pkg/client",
    "pkg/conditions",
    "pkg/fake",
    "pkg/version",
];
const PARTS: &[&str] = &[
    "",
    "/codec",
    "/store",
    "/event",
    "/filter",
    "/internal/wire",
    "/internal/pool",
    "/testdata",
    "/options",
];

impl Log {
    fn go_downloads(&mut self) -> &mut Self {
        for module in MODULES.split('|') {
            self.pass(120).line(format!("go: downloading {module}"));
        }
        self
    }

    fn go_tests_pass(&mut self, module: &str) -> &mut Self {
        for package in PACKAGES {
            for part in PARTS {
                let millis = self.number(4..980);
                self.pass(700);
                match self.number(0..7) {
                    0 => self.line(format!("?   \t{module}/{package}{part}\t[no test files]")),
                    1 => self.line(format!(
                        "ok  \t{module}/{package}{part}\t(cached)\tcoverage: 100.0% of statements"
                    )),
                    _ => self.line(format!(
                        "ok  \t{module}/{package}{part}\t0.{millis:03}s\tcoverage: {}.{}% of statements",
                        millis % 60 + 40,
                        millis % 10
                    )),
                };
            }
        }
        self
    }

    fn go_compiles(&mut self, module: &str) -> &mut Self {
        for package in MODULES.split('|').filter_map(|module| module.split(' ').next()) {
            self.pass(200).line(package);
        }
        for package in PACKAGES {
            self.pass(200).line(format!("{module}/{package}"));
        }
        self
    }
}

/// A format verb for an error that gets a string.
pub(super) fn vet() -> Sample {
    let mut log = Log::new(5);
    let module = "example.com/infra/operator";
    log.checkout("infra/operator").line("+ go build -v ./...").go_downloads().go_compiles(module);
    log.line("+ go test -cover ./...").go_tests_pass(module);
    log.line("+ go vet ./...");
    log.lines(
        "
# example.com/infra/operator/internal/controller
# [example.com/infra/operator/internal/controller]
internal/controller/reconcile.go:117:4: fmt.Errorf format %w has arg name of wrong type string
internal/controller/status.go:63:2: unreachable code
",
    );
    log.line("+ status=1").line("+ go-junit-report -set-exit-code=false -in vet.txt -out vet.xml");
    log.line("+ upload-artifact vet.xml").line("uploaded vet.xml (1.1 kB), 0 errors").line("+ exit 1");
    Sample {
        slug: "go-vet",
        title: "go vet finds a mistake",
        pod: "operator-ci-m3c7d-vet-pod",
        container: "step-vet",
        image: IMAGE,
        pipeline: "operator-ci",
        task: "vet",
        cause_words: &["internal/controller/reconcile.go:117"],
        class: FailureClass::Code,
        ..Sample::failed(log)
    }
}

/// The cluster's DNS does not know the name of the module proxy.
pub(super) fn dns() -> Sample {
    const FAILED: &str = "go: example.com/tools/licenses@v1.6.0: Get \"https://goproxy.internal.example.com/example.com/tools/licenses/@v/v1.6.0.zip\": dial tcp: lookup goproxy.internal.example.com on 172.30.0.10:53: no such host";
    let mut log = Log::new(10);
    log.checkout("infra/collector").line("+ go env GOPROXY").line("https://goproxy.internal.example.com");
    log.line("+ go test -mod=vendor -cover ./...").go_tests_pass("example.com/infra/collector");
    log.line("+ go build -mod=vendor -v ./...").go_compiles("example.com/infra/collector");
    log.line("+ retry --times 3 --wait 5s -- go install example.com/tools/licenses@v1.6.0");
    for attempt in 1..=3 {
        log.line("go: downloading example.com/tools/licenses v1.6.0").line(FAILED);
        log.line(format!("retry: attempt {attempt} of 3 ended with exit code 1")).pass(6_000);
    }
    log.line("retry: giving up").line("+ cleanup").line("removed directory '/workspace/.cache/go-build'");
    Sample {
        slug: "dns",
        title: "A host has no address",
        pod: "collector-ci-p0l4q-licenses-pod",
        container: "step-licenses",
        image: IMAGE,
        pipeline: "collector-ci",
        task: "licenses",
        cause_words: &["goproxy.internal.example.com"],
        class: FailureClass::Infrastructure,
        ..Sample::failed(log)
    }
}
