//! A bundle that exceeds the size of the workspace volume.

use super::Sample;
use super::writer::Log;
use crate::domain::FailureClass;

const SCOPES: &[&str] = &[
    "",
    "@babel/",
    "@types/",
    "@webpack-cli/",
    "@jest/",
    "@testing-library/",
    "@emotion/",
    "@mui/",
    "@svgr/",
    "@swc/",
];
const NAMES: &[&str] = &[
    "core",
    "helper-plugin-utils",
    "parser",
    "traverse",
    "generator",
    "template",
    "runtime",
    "loader-utils",
    "node",
    "react",
    "react-dom",
    "react-router",
    "lodash",
    "lodash.merge",
    "debug",
    "ms",
    "semver",
    "chalk",
    "ansi-styles",
    "supports-color",
    "color-convert",
    "error-ex",
    "is-arrayish",
    "json-parse-even-better-errors",
    "source-map",
    "terser",
    "acorn",
    "ajv",
    "fast-deep-equal",
    "schema-utils",
    "postcss",
    "postcss-value-parser",
    "css-loader",
    "style-loader",
    "sass-loader",
    "browserslist",
    "caniuse-lite",
    "electron-to-chromium",
    "picocolors",
    "nanoid",
    "resolve",
    "path-parse",
    "glob",
    "minimatch",
    "brace-expansion",
    "balanced-match",
    "once",
    "wrappy",
    "inflight",
    "inherits",
    "readable-stream",
    "safe-buffer",
    "string_decoder",
    "through2",
    "yargs",
    "yargs-parser",
    "cliui",
    "string-width",
    "strip-ansi",
    "wrap-ansi",
    "which",
    "isexe",
    "cross-spawn",
    "shebang-command",
    "path-key",
    "signal-exit",
    "execa",
    "npm-run-path",
    "onetime",
    "mimic-fn",
    "p-limit",
    "p-locate",
    "locate-path",
    "find-up",
    "pkg-dir",
    "make-dir",
    "tapable",
    "enhanced-resolve",
    "watchpack",
    "graceful-fs",
    "neo-async",
    "mime-types",
    "mime-db",
];
const FEATURES: &[&str] = &[
    "player", "timeline", "library", "upload", "captions", "settings", "billing", "sharing", "search",
    "admin", "export", "login",
];
const FILES: &[&str] = &[
    "index", "view", "model", "store", "hooks", "api", "styles", "types", "errors", "icons", "routes",
    "form", "table", "dialog",
];

impl Log {
    fn npm_fetches(&mut self) -> &mut Self {
        for scope in SCOPES {
            for name in NAMES {
                let (size, millis) = (scope.replace('/', "%2f"), self.number(8..640));
                let state = if millis % 5 == 0 { "cache hit" } else { "cache miss" };
                self.pass(40).line(format!(
                    "npm http fetch GET 200 https://npm.example.com/{size}{name} {millis}ms ({state})"
                ));
                if millis == 100 {
                    self.line(format!("npm http fetch GET https://npm.example.com/{size}{name} attempt 1 failed with ECONNRESET"));
                }
            }
        }
        self.lines(
            "
npm warn deprecated inflight@1.0.6: This module is not supported, and leaks memory. Do not use it.
npm warn deprecated glob@7.2.3: Glob versions prior to v9 are no longer supported
npm warn deprecated rimraf@3.0.2: Rimraf versions prior to v4 are no longer supported

added 1412 packages, and audited 1413 packages in 58s

211 packages are looking for funding
  run `npm fund` for details

found 0 vulnerabilities
",
        )
    }

    fn webpack_modules(&mut self, target: &str) -> &mut Self {
        self.progress(
            (0..=100)
                .step_by(4)
                .map(|percent| format!("<s> [webpack.Progress] {percent}% building {target}")),
        );
        for feature in FEATURES {
            for area in ["desktop", "mobile", "embed", "shared"] {
                for file in FILES {
                    let (size, steps) = (self.number(180..64_000), self.number(1..9));
                    self.pass(6).line(format!("  ./src/{feature}/{area}/{file}.tsx {}.{:02} KiB {{{}}} [built] [code generated] ({steps} steps)", size / 1024, size % 100, size % 900));
                }
            }
        }
        self.line(format!("{target}: 672 modules, 0 errors, 3 warnings"))
    }
}

/// The volume fills up while webpack writes; npm repeats the error at the end.
pub(super) fn disk_full() -> Sample {
    let mut log = Log::new(9);
    log.checkout("media/encoder").line("+ npm ci --loglevel http").npm_fetches();
    log.line("+ npm run build").lines("\n\n> encoder@4.1.0 build\n> webpack --mode production --progress\n");
    for target in ["esm", "legacy", "worker", "server"] {
        log.webpack_modules(target);
    }
    log.lines(
        "
WARNING in asset size limit: The following asset(s) exceed the recommended size limit (244 KiB).
  vendor.4f2a.js (1.9 MiB)
<w> [webpack.cache.PackFileCacheStrategy] Caching failed for pack: Error: ENOSPC: no space left on device, write
npm error code ENOSPC
npm error syscall write
npm error errno -28
npm error nospc ENOSPC: no space left on device, write '/workspace/source/dist/vendor.4f2a.js'
npm error nospc There appears to be insufficient space on your system to finish.
npm error nospc Clear up some disk space and try again.
npm error A complete log of this run can be found in: /workspace/.npm/_logs/2026-11-20T09_19_46_812Z-debug-0.log
+ df -h /workspace
Filesystem                                 Size  Used Avail Use% Mounted on
/dev/mapper/vg0-pvc--5d0c7e1a              5.0G  5.0G     0 100% /workspace
+ rm -rf /workspace/source/node_modules/.cache
+ exit 228
",
    );
    Sample {
        slug: "disk-full",
        title: "The workspace is full",
        pod: "encoder-build-w1z3y-bundle-pod",
        container: "step-build",
        image: "registry.example.com/ci/node:22-bookworm",
        memory: "4Gi",
        pipeline: "encoder-build",
        task: "bundle",
        exit_code: 228,
        cause_words: &["no space left on device"],
        class: FailureClass::Infrastructure,
        ..Sample::failed(log)
    }
}
