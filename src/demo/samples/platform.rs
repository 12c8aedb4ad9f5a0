//! Failures of what is around the code: images, memory, registries, disks, names, credentials, releases.

use super::Sample;
use super::tests_failing::base;
use super::writer::Log;
use crate::domain::FailureClass;

pub(super) fn image_pull() -> Sample {
    let image = "registry.example.com/ci/node-builder:22.11-typo";
    let mut sample = base(
        "image-pull",
        "The image of a step does not exist",
        "webshop-build-r2f5g-lint-pod",
        "step-lint",
        String::new(),
    )
    .with(
        "webshop-build",
        &["registry.example.com/ci/node-builder:22.11-typo"],
        FailureClass::Configuration,
    );
    sample.started = false;
    sample.reason = "ImagePullBackOff";
    sample.events = vec![
        (
            "Normal",
            "Scheduled",
            "Successfully assigned ci/webshop-build-r2f5g-lint-pod to worker-1".to_owned(),
        ),
        ("Normal", "Pulling", format!("Pulling image \"{image}\"")),
        (
            "Warning",
            "Failed",
            format!(
                "Failed to pull image \"{image}\": rpc error: code = NotFound desc = failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {image}: not found"
            ),
        ),
        ("Warning", "Failed", "Error: ErrImagePull".to_owned()),
        ("Normal", "BackOff", format!("Back-off pulling image \"{image}\"")),
        ("Warning", "Failed", "Error: ImagePullBackOff".to_owned()),
    ];
    sample
}

pub(super) fn out_of_memory() -> Sample {
    let mut log = Log::new(7);
    log.line("+ java -Xmx6g -jar importer.jar --input /workspace/data").service_log(19_000);
    log.line("09:19:46 INFO  loading chunk 412 of 980 into memory (1.9 GiB)").line("Killed");
    let mut sample = base(
        "oom",
        "A step runs out of memory",
        "importer-nightly-t5j9k-import-pod",
        "step-import",
        log.done(),
    )
    .with("importer-nightly", &["OOMKilled"], FailureClass::Infrastructure);
    sample.reason = "OOMKilled";
    sample.exit_code = 137;
    sample
}

pub(super) fn registry_auth() -> Sample {
    let mut log = Log::new(8);
    let token = format!("{}{}", "ghp", "_Zk3v9QhX2mB7tR4wY8nL1cD6fG5jK0pS2aE9");
    log.clone("shop/cart").line(&format!("+ export BUILD_TOKEN={token}"));
    log.line("+ buildah build --format oci --tag registry.example.com/shop/cart:1.18.0 .").image_layers(630);
    log.lines(
        "
COMMIT registry.example.com/shop/cart:1.18.0
Successfully tagged registry.example.com/shop/cart:1.18.0
+ buildah push registry.example.com/shop/cart:1.18.0
Getting image source signatures
",
    );
    log.image_layers(24);
    log.line("Error: pushing image \"registry.example.com/shop/cart:1.18.0\" to \"docker://registry.example.com/shop/cart:1.18.0\": trying to reuse blob sha256:1f2e3d at destination: checking whether a blob exists in registry.example.com/shop/cart: authentication required");
    log.cleanup(90);
    base(
        "registry-auth",
        "The registry refuses a push",
        "cart-release-d8s6x-push-pod",
        "step-push",
        log.done(),
    )
    .with(
        "cart-release",
        &["registry.example.com/shop/cart", "authentication required"],
        FailureClass::Configuration,
    )
}

pub(super) fn disk_full() -> Sample {
    let mut log = Log::new(9);
    log.clone("media/encoder").line("+ npm ci").npm_install(2_300).line("+ npm run build");
    log.lines(
        "
> encoder@4.1.0 build
> webpack --mode production
<w> [webpack.cache.PackFileCacheStrategy] Caching failed for pack: Error: ENOSPC: no space left on device, write
npm error code ENOSPC
npm error syscall write
npm error errno -28
npm error nospc ENOSPC: no space left on device, write '/workspace/source/dist/vendor.4f2a.js'
npm error nospc There appears to be insufficient space on your system to finish.
",
    );
    log.line("npm error A complete log of this run can be found in: /root/.npm/_logs/2026-11-20T09_19_46_812Z-debug-0.log").cleanup(12);
    base("disk-full", "The workspace is full", "encoder-build-w1z3y-bundle-pod", "step-build", log.done())
        .with("encoder-build", &["no space left on device"], FailureClass::Infrastructure)
}

pub(super) fn dns() -> Sample {
    let mut log = Log::new(10);
    log.clone("infra/collector").line("+ go test ./...");
    for n in 0..380 {
        log.line(&format!("ok  \texample.com/infra/collector/pkg/part{n:03}\t0.{:03}s", n * 13 % 999));
    }
    log.lines(
        "
+ go install tool@latest
go: downloading example.com/tools/licenses v1.6.0
go: example.com/tools/licenses@v1.6.0: Get \"https://goproxy.internal.example.com/example.com/tools/licenses/@v/v1.6.0.zip\": dial tcp: lookup goproxy.internal.example.com on 172.30.0.10:53: no such host
",
    );
    log.line("task: retry 1 of 3 in 5s")
        .line("task: retry 2 of 3 in 10s")
        .line("task: giving up")
        .cleanup(20);
    base("dns", "A host has no address", "collector-ci-p0l4q-licenses-pod", "step-licenses", log.done()).with(
        "collector-ci",
        &["goproxy.internal.example.com"],
        FailureClass::Infrastructure,
    )
}

pub(super) fn git_clone() -> Sample {
    let mut log = Log::new(11);
    let address = format!("https://ci-bot:{}@git.example.com/vault/ledger.git", "Tr0ub4dor-horse-staple");
    for n in 0..205 {
        log.line(&format!(
            "{{\"level\":\"info\",\"ts\":{},\"msg\":\"workspace check {n} passed: 0 errors\"}}",
            1_763_630_000 + n
        ));
    }
    log.line(&format!("+ git fetch --depth=1 {address} main"));
    log.lines(
        "
remote: HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or you're required to use a token instead of a password.
fatal: Authentication failed for 'https://git.example.com/vault/ledger.git/'
",
    );
    log.line("{\"level\":\"error\",\"msg\":\"Error running git [fetch]: exit status 128\"}")
        .line("2026/11/20 09:19:47 skipping post-step because of earlier failure");
    base(
        "git-clone",
        "Git refuses the credentials",
        "ledger-release-k6v1n-fetch-source-pod",
        "step-clone",
        log.done(),
    )
    .with("ledger-release", &["https://git.example.com/vault/ledger.git"], FailureClass::Configuration)
}

pub(super) fn helm_upgrade() -> Sample {
    let mut log = Log::new(12);
    log.line(
        "+ helm upgrade --install search charts/search --namespace search --wait --timeout 5m0s --debug",
    );
    for n in 0..240 {
        log.line(&format!("upgrade.go:{}: 2026-11-20 09:1{}:{:02} [debug] beginning wait for {} resources with timeout of 5m0s", 400 + n % 40, n / 60, n % 60, 9));
        if n % 8 == 0 {
            log.line("ready.go:303: [debug] Deployment is not ready: search/search-api. 1 out of 3 expected pods are ready");
        }
    }
    log.lines(
        "
upgrade.go:476: [debug] warning: Upgrade \"search\" failed: context deadline exceeded
Error: UPGRADE FAILED: release search failed, and has been rolled back due to atomic being set: context deadline exceeded
helm.go:92: [debug] context deadline exceeded
",
    );
    log.cleanup(8);
    base(
        "helm-upgrade",
        "A Helm upgrade does not become ready",
        "search-deploy-g7h2r-upgrade-pod",
        "step-helm",
        log.done(),
    )
    .with("search-deploy", &["UPGRADE FAILED", "search"], FailureClass::Infrastructure)
}
