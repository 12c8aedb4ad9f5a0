"""The charts and examples in a real API server: what they install, which rights it gives to whom, and that a service account's token is
a login. A check before a release; `make verify-cluster` fetches and builds the server."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

import yaml

from server import ROOT, ApiServer, free_port

sys.path.append(str(ROOT / "tests/charts"))
from helm import Helm

# Everything that somebody may do, and nothing else: verb, group, resource, by account and namespace ("" for the whole cluster).
EXPECTED = {
    ("regreen", "regreen"): {("create", "authentication.k8s.io", "tokenreviews", "")},
    ("regreen", "mcp-openshift"): {
        (verb, "", resource, "") for verb, resource in
        [("get", "pods"), ("list", "pods"), ("get", "events"), ("list", "events"), ("get", "pods/log")]},
    # The same chart with `namespaces`: a Role in each of them, and nothing in the cluster.
    ("narrow", "mcp-openshift"): {
        (verb, "", resource, namespace) for namespace in ["ci", "staging"] for verb, resource in
        [("get", "pods"), ("list", "pods"), ("get", "events"), ("list", "events"), ("get", "pods/log")]},
    ("regreen", "mcp-gitea"): set(),
    ("regreen", "librechat"): set(),
    ("ci", "regreen-reporter"): {
        ("get", "tekton.dev", "taskruns", "ci"), ("list", "tekton.dev", "taskruns", "ci"), ("list", "", "pods", "ci"),
        ("get", "argoproj.io", "workflows", "ci"),
        ("create", "argoproj.io", "workflowtaskresults", "ci"), ("patch", "argoproj.io", "workflowtaskresults", "ci")},
    ("ci", "default"): set(),
}
VERBS = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", "escalate", "bind"]
RESOURCES = [
    ("", resource) for resource in
    ["pods", "pods/log", "pods/exec", "pods/attach", "pods/portforward", "pods/eviction", "events", "secrets", "configmaps", "services",
     "serviceaccounts", "serviceaccounts/token", "namespaces", "nodes", "nodes/proxy", "persistentvolumeclaims", "endpoints", "users", "groups"]
] + [
    ("apps", "deployments"), ("apps", "statefulsets"), ("batch", "jobs"), ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"), ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"), ("networking.k8s.io", "networkpolicies"), ("tekton.dev", "taskruns"),
    ("tekton.dev", "pipelineruns"), ("argoproj.io", "workflows"), ("argoproj.io", "workflowtaskresults"), ("route.openshift.io", "routes"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"), ("certificates.k8s.io", "certificatesigningrequests"),
]
# What every account of any cluster may ask about itself.
EVERYBODY = {("create", "authorization.k8s.io", "selfsubjectaccessreviews"), ("create", "authorization.k8s.io", "selfsubjectrulesreviews")}


def documents(path):
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def narrow():
    """The chart of the cluster's MCP server, for some namespaces alone."""
    file = ROOT / "tests/charts/everything-mcp-openshift.yaml"
    with Helm() as helm:
        return file, "narrow", helm.install(ROOT / "charts/mcp-openshift", yaml.safe_load(file.read_text()), "narrow").objects


def install(server):
    """Creates what the server knows the kinds of; the others are told."""
    known, left = server.known(), set()
    for namespace in ["regreen", "ci", "others", "staging", "narrow"]:
        server.ask("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    rendered = [(path, "regreen") for path in sorted((ROOT / "charts/rendered").glob("*.yaml"))
                if path.stem in ("regreen-production", "mcp-openshift", "mcp-gitea", "librechat")]
    examples = [(ROOT / f"examples/{example}/report-failure.yaml", "ci") for example in ("tekton", "argo")]
    made = 0
    plain = [(path, own, documents(path)) for path, own in rendered + examples]
    for path, own, objects in [*plain, narrow()]:
        for found in objects:
            place = known.get((found["apiVersion"], found["kind"]))
            if not place:
                left.add(f"{found['apiVersion']} {found['kind']}")
                continue
            group, resource, namespaced = place
            namespace = found["metadata"].get("namespace", own)
            # The examples' Role has one name for two systems; here both are in one namespace.
            if own == "ci" and found["kind"] in ("Role", "RoleBinding"):
                found["metadata"]["name"] += f"-{path.parent.name}"
                if found["kind"] == "RoleBinding":
                    found["roleRef"]["name"] += f"-{path.parent.name}"
            collection = f"{group}/namespaces/{namespace}/{resource}" if namespaced else f"{group}/{resource}"
            status, answer = server.ask("POST", collection, found)
            already = own == "ci" and found["kind"] == "ServiceAccount" and status == 409
            if status != 201 and not already:
                yield f"{path.name}: {found['kind']} {found['metadata']['name']}: {answer.get('message')}"
            made += status == 201
    print(f"       {made} objects; this API server does not know {', '.join(sorted(left))}")


def rights(server):
    """The table of `kubectl auth can-i` for every account, in its own namespace, in another one, and in the whole cluster."""
    asked = 0
    for (home, name), expected in EXPECTED.items():
        account = f"system:serviceaccount:{home}:{name}"
        for verb, (group, resource), namespace in itertools.product(VERBS, RESOURCES, ["ci", "others", "regreen", ""]):
            wanted = any((verb, group, resource, place) in expected for place in ("", namespace))
            asked += 1
            if server.may(account, verb, group, resource, namespace) != wanted:
                yield f"{account} {'may not' if wanted else 'may'} {verb} {group}/{resource} in {namespace or 'the cluster'}"
    print(f"       {asked} questions about {len(EXPECTED)} accounts")


def rules(server):
    """Nothing beside the table: what the server itself lists for each account."""
    for (home, name), expected in EXPECTED.items():
        if home == "ci" and name == "default":
            continue
        token = server.token(home, name)
        for namespace in ("ci", "others"):
            review = {"spec": {"namespace": namespace}}
            status, answer = server.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review, token=token)
            listed = {(verb, group, resource) for rule in answer["status"]["resourceRules"]
                      for verb in rule["verbs"] for group in rule["apiGroups"] for resource in rule["resources"]}
            wanted = {(verb, group, resource) for verb, group, resource, place in expected if place in ("", namespace)}
            if status != 201 or listed - EVERYBODY != wanted:
                yield f"{home}/{name} in {namespace}: {sorted(listed - EVERYBODY)} instead of {sorted(wanted)}"


class Regreen:
    """The service, which asks the API server about callers with the token of the chart's own account."""

    def __init__(self, server):
        folder = pathlib.Path(server.folder.name)
        (folder / "own-token").write_text(server.token("regreen", "regreen"))
        self.url = f"http://127.0.0.1:{free_port()}"
        self.log = open(folder / "regreen.log", "wb")
        settings = {
            "REGREEN_PORT": self.url.rsplit(":", 1)[1], "REGREEN_AUTH": "kubernetes", "REGREEN_KUBERNETES_API": server.url,
            "REGREEN_KUBERNETES_CA": str(server.ca), "REGREEN_KUBERNETES_TOKEN": str(folder / "own-token"),
            "DATABASE_URL": os.environ["DATABASE_URL"], "PATH": os.environ["PATH"]}
        program = ROOT / "target/debug/regreen"
        self.process = subprocess.Popen([program, "serve"], env=settings, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while self.status("GET", "/health/ready") != 200:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit("regreen did not start:\n" + pathlib.Path(self.log.name).read_text()[-4000:])
            time.sleep(0.2)

    def status(self, method, path, token=None, body=None):
        headers = {"content-type": "application/json", "prefer": "respond-async"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method), timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def logins(server):
    """A pod's projected token is all that a pipeline needs; any other is refused."""
    regreen = Regreen(server)
    try:
        report = {"namespace": "ci", "pod_name": "build-1", "log": "error: it failed\n"}
        good = server.token("ci", "regreen-reporter", "regreen")
        server.account("ci", "gone")
        gone = server.token("ci", "gone", "regreen")
        server.ask("DELETE", "/api/v1/namespaces/ci/serviceaccounts/gone")
        for what, token, body, wanted in [
            ("a token for this service", good, report, 202),
            ("the same for another namespace", good, {**report, "namespace": "others"}, 403),
            ("a token for the API server itself", server.token("ci", "regreen-reporter"), report, 401),
            ("a token for another service", server.token("ci", "regreen-reporter", "vault"), report, 401),
            ("the token of an account that is gone", gone, report, 401),
            ("a token with another's claims", forged(good), report, 401),
            ("no token", None, report, 401),
        ]:
            status = regreen.status("POST", "/report-failure", token, body)
            if status != wanted:
                yield f"{what}: {status} instead of {wanted}"
        if (status := regreen.status("GET", "/api/incidents", good)) != 403:
            yield f"a reporter reads incidents: {status} instead of 403"
    finally:
        regreen.stop()


def forged(token):
    head, claims, signature = token.split(".")
    return ".".join([head, claims[:-4] + ("AAAA" if claims[-4:] != "AAAA" else "BBBB"), signature])


def main():
    with ApiServer() as server:
        version = server.ask("GET", "/version")[1]["gitVersion"]
        print(f"kube-apiserver {version}")
        failed = False
        for check in [install, rights, rules, logins]:
            begun = time.monotonic()
            wrong = list(check(server))
            failed |= bool(wrong)
            print(f"{'FAILED' if wrong else 'ok':6} {check.__name__} ({time.monotonic() - begun:.1f} s)")
            print(*[f"       {line}" for line in wrong], sep="\n", end="\n" if wrong else "")
        return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
