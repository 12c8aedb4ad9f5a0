//! Image failures: one that does not exist, and one that the registry rejects.

use super::Sample;
use super::writer::Log;
use crate::domain::FailureClass;

const PACKAGES: &[&str] = &[
    "adduser",
    "apt-utils",
    "bash-completion",
    "bsdutils",
    "bzip2",
    "ca-certificates",
    "coreutils",
    "curl",
    "dash",
    "debianutils",
    "diffutils",
    "dirmngr",
    "file",
    "findutils",
    "fontconfig",
    "gettext-base",
    "gnupg",
    "gpg-agent",
    "gzip",
    "hostname",
    "libacl1",
    "libapparmor1",
    "libassuan0",
    "libaudit1",
    "libblkid1",
    "libbrotli1",
    "libbz2-1.0",
    "libc-bin",
    "libc6",
    "libcap2",
    "libcom-err2",
    "libcurl4",
    "libdb5.3",
    "libedit2",
    "libexpat1",
    "libffi8",
    "libfontconfig1",
    "libfreetype6",
    "libgcrypt20",
    "libgmp10",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libicu72",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libldap-2.5-0",
    "liblz4-1",
    "liblzma5",
    "libmagic1",
    "libmount1",
    "libnettle8",
    "libnghttp2-14",
    "libnpth0",
    "libp11-kit0",
    "libpam0g",
    "libpcre2-8-0",
    "libpng16-16",
    "libpsl5",
    "libreadline8",
    "librtmp1",
    "libsasl2-2",
    "libseccomp2",
    "libselinux1",
    "libsmartcols1",
    "libsqlite3-0",
    "libssh2-1",
    "libssl3",
    "libtasn1-6",
    "libtinfo6",
    "libunistring2",
    "libuuid1",
    "libxml2",
    "libxxhash0",
    "libzstd1",
    "mime-support",
    "netbase",
    "openssl",
    "perl-base",
    "pinentry-curses",
    "readline-common",
    "sed",
    "shared-mime-info",
    "tar",
    "tini",
    "tzdata",
    "util-linux",
    "xdg-user-dirs",
    "xz-utils",
    "zlib1g",
    "libdatetime-perl",
    "liberror-perl",
];
const WHEELS: &[&str] = &[
    "annotated-types 0.7.0",
    "anyio 4.6.2",
    "asyncpg 0.30.0",
    "attrs 24.2.0",
    "boto3 1.35.71",
    "botocore 1.35.71",
    "certifi 2024.8.30",
    "cffi 1.17.1",
    "charset-normalizer 3.4.0",
    "click 8.1.7",
    "cryptography 43.0.3",
    "dnspython 2.7.0",
    "exceptiongroup 1.2.2",
    "fastapi 0.115.5",
    "frozenlist 1.5.0",
    "greenlet 3.1.1",
    "gunicorn 23.0.0",
    "h11 0.14.0",
    "httpcore 1.0.7",
    "httptools 0.6.4",
    "httpx 0.27.2",
    "idna 3.10",
    "jinja2 3.1.4",
    "jmespath 1.0.1",
    "markupsafe 3.0.2",
    "multidict 6.1.0",
    "orjson 3.10.12",
    "packaging 24.2",
    "pydantic 2.10.2",
    "pydantic-core 2.27.1",
    "python-dateutil 2.9.0",
    "python-dotenv 1.0.1",
    "pyyaml 6.0.2",
    "redis 5.2.0",
    "requests 2.32.3",
    "s3transfer 0.10.4",
    "six 1.16.0",
    "sniffio 1.3.1",
    "sqlalchemy 2.0.36",
    "starlette 0.41.3",
    "structlog 24.4.0",
    "tenacity 9.0.0",
    "typing-extensions 4.12.2",
    "urllib3 2.2.3",
    "uvicorn 0.32.1",
    "uvloop 0.21.0",
    "watchfiles 1.0.0",
];

/// A tag with a typo. The container never starts, so only the events show the cause.
pub(super) fn image_pull() -> Sample {
    let image = "registry.example.com/ci/node-builder:22.11-typo";
    let failed = format!(
        "Failed to pull image \"{image}\": rpc error: code = NotFound desc = failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {image}: not found"
    );
    Sample {
        slug: "image-pull",
        title: "The image of a step does not exist",
        pod: "webshop-build-r2f5g-lint-pod",
        container: "step-lint",
        image,
        pipeline: "webshop-build",
        task: "lint",
        reason: "ImagePullBackOff",
        started: false,
        events: vec![
            ("Normal", "Pulling", format!("Pulling image \"{image}\"")),
            ("Warning", "Failed", failed),
            ("Warning", "Failed", "Error: ErrImagePull".to_owned()),
            ("Normal", "BackOff", format!("Back-off pulling image \"{image}\"")),
            ("Warning", "Failed", "Error: ImagePullBackOff".to_owned()),
        ],
        cause_words: &["registry.example.com/ci/node-builder:22.11-typo"],
        class: FailureClass::Configuration,
        ..Sample::failed(Log::new(6))
    }
}

impl Log {
    fn apt_install(&mut self) -> &mut Self {
        self.lines(
            "
Get:1 http://deb.example.com/debian bookworm InRelease [151 kB]
Get:2 http://deb.example.com/debian bookworm-updates InRelease [55.4 kB]
Get:3 http://deb.example.com/debian bookworm/main amd64 Packages [8789 kB]
Fetched 8996 kB in 2s (4812 kB/s)
Reading package lists...
Building dependency tree...
",
        );
        for (position, name) in PACKAGES.iter().enumerate() {
            let size = self.number(6..2_400);
            self.pass(60).line(format!(
                "Get:{} http://deb.example.com/debian bookworm/main amd64 {name} amd64 [{size} kB]",
                position + 4
            ));
        }
        self.line("debconf: delaying package configuration, since apt-utils is not installed");
        for verb in ["Unpacking", "Setting up"] {
            for name in PACKAGES {
                self.pass(40);
                if verb == "Unpacking" {
                    self.line(format!("Preparing to unpack .../{name}_amd64.deb ..."));
                }
                self.line(format!("{verb} {name} ..."));
            }
        }
        self.line("Processing triggers for libc-bin (2.36-9+deb12u9) ...")
    }

    fn pip_in_image(&mut self) -> &mut Self {
        for wheel in WHEELS {
            let (name, version) = wheel.split_once(' ').unwrap_or((wheel, ""));
            let size = self.number(12..4_000);
            self.pass(80).line(format!("Collecting {name}=={version} (from -r requirements.txt)"));
            self.line(format!(
                "  Downloading {}-{version}-py3-none-any.whl ({size} kB)",
                name.replace('-', "_")
            ));
        }
        let installed: Vec<String> = WHEELS.iter().map(|wheel| wheel.replace(' ', "-")).collect();
        self.line(format!("Successfully installed {}", installed.join(" ")));
        self.line("WARNING: Running pip as the 'root' user can result in broken permissions and conflicting behaviour with the system package manager.")
    }
}

/// The robot account may build but not push; the log contains a token.
pub(super) fn registry_auth() -> Sample {
    let mut log = Log::new(8);
    // Concatenated, so that the source contains nothing that looks like a credential.
    let token = ["gh", "p_", "Zk3v9QhX2mB7tR4wY8nL1cD6fG5jK0pS2aE9"].concat();
    log.checkout("shop/cart").line(format!("+ export BUILD_TOKEN={token}"));
    log.line("+ buildah --storage-driver=vfs bud --format=oci --tls-verify=true --no-cache -f ./Dockerfile -t registry.example.com/shop/cart:1.18.0 .");
    log.line("STEP 1/9: FROM registry.example.com/base/python:3.12-slim-bookworm");
    log.line("Trying to pull registry.example.com/base/python:3.12-slim-bookworm...")
        .line("Getting image source signatures");
    for _ in 0..5 {
        let digest = log.hex(64);
        log.pass(900).line(format!("Copying blob sha256:{digest}"));
    }
    let config = log.hex(64);
    log.line(format!("Copying config sha256:{config}")).line("Writing manifest to image destination");
    log.line("STEP 2/9: ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1");
    log.line("STEP 3/9: RUN apt-get update && apt-get install -y --no-install-recommends curl gnupg tini")
        .apt_install();
    log.line("STEP 4/9: WORKDIR /app").line("STEP 5/9: COPY requirements.txt ./");
    log.line("STEP 6/9: RUN pip install -r requirements.txt").pip_in_image();
    log.line("STEP 7/9: COPY src/ ./src/");
    log.line("STEP 8/9: RUN python -m compileall -q src && python -m cart.selfcheck")
        .line("selfcheck: 212 routes, 0 errors");
    log.line("STEP 9/9: ENTRYPOINT [\"tini\", \"--\", \"gunicorn\", \"cart.app:app\"]");
    log.line("COMMIT registry.example.com/shop/cart:1.18.0").line("--> 4be3a0d2c5f1");
    log.line("Successfully tagged registry.example.com/shop/cart:1.18.0");
    log.line("+ buildah --storage-driver=vfs push --digestfile /tmp/image-digest registry.example.com/shop/cart:1.18.0 docker://registry.example.com/shop/cart:1.18.0");
    log.line("Getting image source signatures");
    for _ in 0..8 {
        let digest = log.hex(64);
        log.pass(400).line(format!("Copying blob sha256:{digest}"));
    }
    log.line("time=\"2026-11-20T09:15:21Z\" level=warning msg=\"Failed, retrying in 1s ... (1/3). Error: reading blob: connection reset\"");
    let digest = log.hex(64);
    log.line(format!("Error: pushing image \"registry.example.com/shop/cart:1.18.0\" to \"docker://registry.example.com/shop/cart:1.18.0\": trying to reuse blob sha256:{digest} at destination: checking whether a blob sha256:{digest} exists in registry.example.com/shop/cart: authentication required"));
    log.line("+ buildah --storage-driver=vfs rmi --all --force");
    for _ in 0..24 {
        let id = log.hex(64);
        log.line(id);
    }
    Sample {
        slug: "registry-auth",
        title: "The registry refuses a push",
        pod: "cart-release-d8s6x-push-pod",
        container: "step-push",
        image: "registry.example.com/ci/buildah:1.37",
        pipeline: "cart-release",
        task: "push",
        exit_code: 125,
        cause_words: &["registry.example.com/shop/cart", "authentication required"],
        class: FailureClass::Configuration,
        ..Sample::failed(log)
    }
}
