"""etcd and kube-apiserver on loopback, with RBAC, and what a check asks of them."""

import json
import pathlib
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".tools"
ADMIN = "the-administrator-of-this-check"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class ApiServer:
    """A cluster without nodes; use it with `with`."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.folder.name)
        etcd, peer, port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        self.log = open(folder / "log", "wb")
        self.processes = [self.start(
            TOOLS / "etcd-server/usr/bin/etcd", "--data-dir", folder / "etcd",
            "--listen-client-urls", f"http://127.0.0.1:{etcd}", "--advertise-client-urls", f"http://127.0.0.1:{etcd}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}")]
        key = folder / "accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, stderr=subprocess.DEVNULL)
        (folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n')
        self.processes.append(self.start(
            TOOLS / "kube-apiserver/kube-apiserver", "--etcd-servers", f"http://127.0.0.1:{etcd}",
            "--bind-address", "127.0.0.1", "--secure-port", str(port), "--cert-dir", folder / "certificates",
            "--authorization-mode", "RBAC", "--token-auth-file", folder / "tokens.csv",
            "--service-account-issuer", "https://kubernetes.default.svc", "--service-account-signing-key-file", key,
            "--service-account-key-file", key, "--service-cluster-ip-range", "10.96.0.0/16",
            # Nobody is there to give pods their accounts' tokens.
            "--disable-admission-plugins", "ServiceAccount"))
        self.ca = folder / "certificates/apiserver.crt"
        self.wait()
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()
        self.log.close()
        self.folder.cleanup()

    def start(self, *command):
        return subprocess.Popen([str(word) for word in command], stdout=self.log, stderr=self.log)

    def wait(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self.processes):
                break
            try:
                if self.ask("GET", "/readyz", text=True)[1] == "ok":
                    return
            except (OSError, ssl.SSLError):
                pass
            time.sleep(0.2)
        raise SystemExit("the API server did not start:\n" + pathlib.Path(self.log.name).read_text()[-4000:])

    def ask(self, method, path, body=None, token=ADMIN, text=False):
        """Status and answer."""
        # The name in a certificate that the server made for itself is not the address.
        trust = ssl.create_default_context(cafile=str(self.ca))
        trust.check_hostname = False
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, context=trust, timeout=30) as answer:
                status, said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read()
        return status, said.decode() if text else json.loads(said or b"null")

    def known(self):
        """Path of the collection of each kind that there is, and whether it is within a namespace, by version and kind."""
        found = {}
        groups = ["/api/v1"] + [
            f"/apis/{version['groupVersion']}" for group in self.ask("GET", "/apis")[1]["groups"] for version in group["versions"]]
        for group in groups:
            for kind in self.ask("GET", group)[1]["resources"]:
                if "/" not in kind["name"]:
                    version = group.removeprefix("/apis/").removeprefix("/api/")
                    found[version, kind["kind"]] = group, kind["name"], kind["namespaced"]
        return found

    def account(self, namespace, name):
        self.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def token(self, namespace, name, audience=None):
        """A projected token, as a pod gets it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        spec = {"audiences": [audience] if audience else [], "expirationSeconds": 600}
        status, made = self.ask("POST", path, {"spec": spec})
        assert status == 201, made
        return made["status"]["token"]

    def may(self, account, verb, group, resource, namespace=None):
        """What `kubectl auth can-i --as` asks."""
        resource, _, part = resource.partition("/")
        wanted = {"verb": verb, "group": group, "resource": resource, "subresource": part, "namespace": namespace or ""}
        review = {"spec": {"user": account, "groups": groups_of(account), "resourceAttributes": wanted}}
        status, answer = self.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        assert status == 201, answer
        return answer["status"]["allowed"]


def groups_of(account):
    namespace = account.split(":")[2]
    return ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
