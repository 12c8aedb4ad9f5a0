"""Renders charts with Helm's own engine: the one inside kubernetes-mcp-server, on a stand-in cluster."""

import base64
import gzip
import json
import pathlib
import subprocess
import tempfile

import yaml

from cluster import Cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENGINE = ROOT / ".tools/npm/node_modules/kubernetes-mcp-server-linux-amd64/bin/kubernetes-mcp-server-linux-amd64"


class Refused(Exception):
    """Helm does not take the values."""


class Release:
    """What Helm made of a chart and its values."""

    def __init__(self, stored):
        self.values = stored["config"]
        self.notes = stored["info"].get("notes", "")
        self.objects = [found for found in yaml.load_all(stored["manifest"], yaml.CSafeLoader) if found]
        hooks = [yaml.load(hook["manifest"], yaml.CSafeLoader) for hook in stored.get("hooks", [])]
        self.tests = [hook for hook in hooks if hook["metadata"]["annotations"]["helm.sh/hook"] == "test"]
        self.hooks = [hook for hook in hooks if hook not in self.tests]

    def everything(self):
        return self.objects + self.hooks + self.tests


class Helm:
    """A running engine; use it with `with`."""

    def __enter__(self):
        self.cluster = Cluster()
        self.folder = tempfile.TemporaryDirectory()
        kubeconfig = pathlib.Path(self.folder.name, "kubeconfig")
        kubeconfig.write_text(self.cluster.kubeconfig())
        command = [ENGINE, "--kubeconfig", kubeconfig, "--toolsets", "helm", "--log-file", self.folder.name + "/log"]
        environment = {"HOME": self.folder.name, "PATH": "/usr/bin:/bin"}
        self.process = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL)
        self.asked = 0
        about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "charts", "version": "1"}}
        self.ask("initialize", about)
        self.write({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.terminate()
        self.process.wait()
        self.cluster.shutdown()
        self.folder.cleanup()

    def write(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, method, params):
        self.asked += 1
        self.write({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params})
        while True:
            message = json.loads(self.process.stdout.readline())
            if message.get("id") == self.asked:
                return message["result"] if "result" in message else {"isError": True, "content": [message["error"]]}

    def install(self, chart, values, namespace="regreen"):
        """Installs a chart into an empty cluster, as a release of its own name."""
        self.cluster.objects.clear()
        arguments = {"chart": str(chart), "name": chart.name, "namespace": namespace, "values": values}
        answer = self.ask("tools/call", {"name": "helm_install", "arguments": arguments})
        if "UnsupportedMediaType" in str(answer):
            # The client speaks protobuf until it has learnt that this cluster does not.
            answer = self.ask("tools/call", {"name": "helm_install", "arguments": arguments})
        if answer.get("isError"):
            raise Refused(" ".join(part.get("text") or part.get("message", "") for part in answer["content"]))
        stored = self.cluster.objects[f"/api/v1/namespaces/{namespace}/secrets/sh.helm.release.v1.{chart.name}.v1"]
        text = gzip.decompress(base64.b64decode(base64.b64decode(stored["data"]["release"])))
        return Release(json.loads(text))
