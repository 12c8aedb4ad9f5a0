"""A stand-in Kubernetes API: answers discovery, keeps what is created, and says that all of it is ready."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Kinds that the charts may use, by API group and version: plural, kind, whether it is in a namespace.
KINDS = {
    "v1": [
        ("configmaps", "ConfigMap", True), ("namespaces", "Namespace", False), ("pods", "Pod", True),
        ("secrets", "Secret", True), ("serviceaccounts", "ServiceAccount", True), ("services", "Service", True),
    ],
    "apps/v1": [("deployments", "Deployment", True)],
    "autoscaling/v2": [("horizontalpodautoscalers", "HorizontalPodAutoscaler", True)],
    "autoscaling.k8s.io/v1": [("verticalpodautoscalers", "VerticalPodAutoscaler", True)],
    "batch/v1": [("cronjobs", "CronJob", True), ("jobs", "Job", True)],
    "external-secrets.io/v1": [("externalsecrets", "ExternalSecret", True)],
    "monitoring.coreos.com/v1": [
        ("prometheusrules", "PrometheusRule", True), ("servicemonitors", "ServiceMonitor", True),
    ],
    "networking.k8s.io/v1": [("ingresses", "Ingress", True), ("networkpolicies", "NetworkPolicy", True)],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget", True)],
    "rbac.authorization.k8s.io/v1": [
        ("clusterrolebindings", "ClusterRoleBinding", False), ("clusterroles", "ClusterRole", False),
        ("rolebindings", "RoleBinding", True), ("roles", "Role", True),
    ],
    "route.openshift.io/v1": [("routes", "Route", True)],
}
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def discovery(path):
    """The answer to a question about what there is, or None."""
    if path == "/version":
        return {"major": "1", "minor": "33", "gitVersion": "v1.33.0", "platform": "linux/amd64"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        versions = [name.split("/") for name in KINDS if "/" in name]
        groups = [
            {"name": group, "versions": [version], "preferredVersion": version}
            for group, version in ((g, {"groupVersion": f"{g}/{v}", "version": v}) for g, v in versions)
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    name = path.removeprefix("/apis/").removeprefix("/api/")
    if name not in KINDS:
        return None
    resources = [
        {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": VERBS}
        for plural, kind, namespaced in KINDS[name]
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


class Cluster(ThreadingHTTPServer):
    """The server; `objects` is what was created, by path."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """Clients that leave are no error."""

    def kubeconfig(self):
        """How a client finds it."""
        named = {"clusters": "cluster", "users": "user", "contexts": "context"}
        about = {
            "clusters": {"server": f"http://127.0.0.1:{self.server_port}"},
            "users": {},
            "contexts": {"cluster": "stand-in", "user": "stand-in", "namespace": "regreen"},
        }
        lists = {many: [{"name": "stand-in", one: about[many]}] for many, one in named.items()}
        return json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "stand-in", **lists})


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # One write for headers and body, or the client waits for an acknowledgement in between.
    wbufsize = -1

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        # Of OpenAPI the client wants protobuf, in which an empty description has no bytes: it checks nothing then.
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.wfile.flush()

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def fail(self, code, reason):
        self.answer(code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
                           "code": code, "message": f"{reason}: {self.path}"})

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/openapi/v2":
            return self.answer(200, None)
        known = discovery(url.path) or self.server.objects.get(url.path)
        if known:
            return self.answer(200, known)
        group = url.path.removeprefix("/apis/").removeprefix("/api/")
        plural = url.path.rsplit("/", 1)[-1]
        if any(group.startswith(name + "/") and plural in [row[0] for row in rows] for name, rows in KINDS.items()):
            below = [found for path, found in self.server.objects.items() if path.startswith(url.path + "/")]
            kinds = {row[0]: row[1] for rows in KINDS.values() for row in rows}
            version = next(name for name in KINDS if group.startswith(name + "/"))
            return self.answer(200, {"kind": f"{kinds[plural]}List", "apiVersion": version, "items": below,
                                     "metadata": {"resourceVersion": "1"}})
        return self.fail(404, "NotFound")

    def keep(self, status, path, found):
        found["metadata"].update(uid=path, resourceVersion="1")
        # Helm waits until all is ready: nothing runs here, so it is made to look so.
        if found["kind"] == "Job":
            found["status"] = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
        if found["kind"] == "Service":
            found["spec"].setdefault("clusterIP", "10.0.0.1")
        if found["kind"] == "Deployment":
            found["spec"]["paused"] = True
        self.server.objects[path] = found
        self.answer(status, found)

    def do_POST(self):
        if "protobuf" in self.headers.get("Content-Type", ""):
            self.rfile.read(int(self.headers["Content-Length"]))
            return self.fail(415, "UnsupportedMediaType")
        found = self.body()
        self.keep(201, f"{urlsplit(self.path).path}/{found['metadata']['name']}", found)

    def do_PUT(self):
        self.keep(200, urlsplit(self.path).path, self.body())

    def do_PATCH(self):
        known = self.server.objects.get(urlsplit(self.path).path)
        self.body()
        return self.answer(200, known) if known else self.fail(404, "NotFound")

    def do_DELETE(self):
        self.body()
        self.server.objects.pop(urlsplit(self.path).path, None)
        self.answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
