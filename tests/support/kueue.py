"""The real Kueue on the embedded cluster: its manager as a process beside it, on loopback only.

The manager is built once from the module that `kueue/go.mod` pins, into the user's cache beside
Kubernetes; with it lie its manifests: CRDs, roles and webhooks, as its own `config/default` makes
them. It works with the rights of its own service account. What differs from an installation:

- The API server calls the webhooks, those for conversion too, by URL. It needs no flag for that;
  they show the cluster's own serving certificate, which is for 127.0.0.1.
- Without certificate management of its own, Kueue reads a certificate for its metrics from a fixed
  place below /etc, even where metrics are off: it has an /etc of its own.
- Off are metrics, the visibility API (it would listen on all addresses) and leader election.
- Of its integrations only `batch/job` is on, and only that one's webhooks are registered: those for
  pods and Deployments would do nothing, but be asked each time.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from kubeseg_local import build, namespaces
from kubeseg_local.layout import LOOPBACK, Layout
from kubeseg_local.progress import Progress
from tests.support.cluster import TestCluster, wait_for
from tests.support.operator_process import free_port

SOURCES = Path(__file__).with_name("kueue")
MODULE, PACKAGE = "sigs.k8s.io/kueue", "sigs.k8s.io/kueue/cmd/kueue"
NAMESPACE, ACCOUNT = "kueue-system", "kueue-controller-manager"
LABEL = "app.kubernetes.io/name=kueue"
#: What makes it run in a cluster, and what aggregates its visibility API.
_NOT_HERE = {"Deployment", "Service", "Secret", "ConfigMap", "APIService"}
_WEBHOOKS = {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
_GROUPS = {"batch", "kueue.x-k8s.io"}
#: Runs the rest of its arguments with an /etc in which the first one lies where Kueue looks.
_OWN_ETC = (
    "mount -t tmpfs tmpfs /etc && mkdir -p /etc/kueue/metrics && "
    'ln -s "$0" /etc/kueue/metrics/certs && exec "$@"'
)

Raw = dict[str, Any]


def ensure(say: Callable[[str], None] | None = None) -> Path:
    """Folder with `manager` and `manifests.yaml`, made if need be. Raises BuildError."""
    progress = Progress("building Kueue", say)
    home = build.cache_root() / "kueue"
    target = home / build.source_key(SOURCES)
    if target.is_dir():
        return target
    home.mkdir(parents=True, exist_ok=True)
    with build.locked(home / ".lock", progress):
        if not target.is_dir():
            with build.staged(target) as stage:
                build.compile_package(PACKAGE, SOURCES, stage / "manager", progress)
                (stage / "manifests.yaml").write_text(_manifests(progress))
            progress.done()
    return target


def _manifests(progress: Progress) -> str:
    go = build.go_of(SOURCES, progress)
    module = build.run_go(go, ["list", "-m", "-f", "{{.Dir}}", MODULE], SOURCES).strip()
    command = [str(build.ensure() / "kubectl"), "kustomize", f"{module}/config/default"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Kueue:
    """The manager beside one cluster. `settings` are merged into its configuration."""

    def __init__(self, cluster: TestCluster, folder: Path, settings: Raw | None = None) -> None:
        self.cluster, self._folder = cluster, folder
        self._built = ensure()
        self._pki = Layout(cluster.cluster.directory).pki
        self._webhooks, self._health = free_port(), free_port()
        self._settings = settings or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "kueue.log"

    def install(self) -> None:
        """Make what it needs in the cluster, and start it."""
        configurations, rest = self._objects()
        self._apply(rest)
        self.cluster.kubectl("wait", "--for=condition=Established", "crd", "-l", LABEL)
        self.start()
        self._apply(configurations)

    def remove(self) -> None:
        """End it, and leave nothing in the cluster."""
        configurations, rest = self._objects()
        # The webhooks first: once the manager has gone, no Job could be made.
        for part in (configurations, rest):
            listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": part})
            arguments = ("delete", "--ignore-not-found", "--timeout=60s", "-f", "-")
            self.cluster.kubectl(*arguments, stdin=listed)
        self.stop()

    def start(self) -> None:
        """Start the manager, and wait until it is ready."""
        certificates = self._folder / "certificates"
        certificates.mkdir(exist_ok=True)
        for name, file in (("tls.crt", "server.crt"), ("tls.key", "server.key")):
            if not (certificates / name).exists():
                (certificates / name).symlink_to(self._pki / file)
        kubeconfig, config = self._folder / "kueue.kubeconfig", self._folder / "kueue.json"
        self.cluster.write_kubeconfig(kubeconfig, NAMESPACE, ACCOUNT)
        config.write_text(json.dumps(self._configuration(certificates)))
        rootless = self.cluster.settings.rootless
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    # It goes with its tests, also when they are killed.
                    *("setpriv", "--pdeathsig", "KILL"),
                    *namespaces.unshare_command(rootless=rootless),
                    *("sh", "-c", _OWN_ETC, str(certificates)),
                    *(str(self._built / "manager"), f"--config={config}"),
                    f"--kubeconfig={kubeconfig}",
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        wait_for("Kueue is ready", self._ready, 60)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        try:
            return httpx.get(f"http://{LOOPBACK}:{self._health}/readyz").is_success
        except httpx.TransportError:
            return False

    def _configuration(self, certificates: Path) -> Raw:
        return {
            "apiVersion": "config.kueue.x-k8s.io/v1beta2",
            "kind": "Configuration",
            "namespace": NAMESPACE,
            "health": {"healthProbeBindAddress": f"{LOOPBACK}:{self._health}"},
            "metrics": {"bindAddress": "0"},
            "webhook": {"host": LOOPBACK, "port": self._webhooks, "certDir": str(certificates)},
            "leaderElection": {"leaderElect": False},
            "internalCertManagement": {"enable": False},
            "integrations": {"frameworks": ["batch/job"]},
            "featureGates": {"VisibilityOnDemand": False},
            **self._settings,
        }

    def _objects(self) -> tuple[list[Raw], list[Raw]]:
        """The configurations of the webhooks, and everything else that is applied."""
        text = (self._built / "manifests.yaml").read_text()
        everything = [o for o in yaml.load_all(text, yaml.CSafeLoader) if o]
        objects = [o for o in everything if o["kind"] not in _NOT_HERE]
        for each in objects:
            if each["kind"] in _WEBHOOKS:
                each["webhooks"] = [hook for hook in each["webhooks"] if _wanted(hook)]
            for holder in _callers(each):
                holder["clientConfig"] = self._called_by_url(holder["clientConfig"])
        configurations = [o for o in objects if o["kind"] in _WEBHOOKS]
        return configurations, [o for o in objects if o["kind"] not in _WEBHOOKS]

    def _called_by_url(self, client: Raw) -> Raw:
        url = f"https://{LOOPBACK}:{self._webhooks}{client['service']['path']}"
        return {"url": url, "caBundle": b64encode((self._pki / "ca.crt").read_bytes()).decode()}

    def _apply(self, objects: list[Raw]) -> None:
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.cluster.kubectl("apply", "--server-side", "-f", "-", stdin=listed)


def _wanted(webhook: Raw) -> bool:
    return all(set(rule["apiGroups"]) <= _GROUPS for rule in webhook["rules"])


def _callers(manifest: Raw) -> list[Raw]:
    """What in it says where a webhook is."""
    conversion = manifest.get("spec", {}).get("conversion", {}).get("webhook")
    return [conversion] if conversion else manifest.get("webhooks", [])


@contextlib.contextmanager
def running(cluster: TestCluster, folder: Path, settings: Raw | None = None) -> Iterator[Kueue]:
    """Kueue at work in this cluster."""
    kueue = Kueue(cluster, folder, settings)
    try:
        kueue.install()
        yield kueue
        kueue.remove()
    finally:
        kueue.stop()


def flavor(name: str, **spec: Any) -> Raw:
    """A ResourceFlavor."""
    return _object("ResourceFlavor", name, spec)


def cluster_queue(name: str, flavor_name: str, **quota: str) -> Raw:
    """A ClusterQueue of one flavor, for all namespaces, in which a higher priority preempts."""
    resources = [{"name": resource, "nominalQuota": much} for resource, much in quota.items()]
    group = {
        "coveredResources": list(quota),
        "flavors": [{"name": flavor_name, "resources": resources}],
    }
    return _object(
        "ClusterQueue",
        name,
        {
            "namespaceSelector": {},
            "resourceGroups": [group],
            "preemption": {"withinClusterQueue": "LowerPriority"},
        },
    )


def local_queue(name: str, cluster_queue_name: str) -> Raw:
    """A LocalQueue; TrainingJobs name it."""
    return _object("LocalQueue", name, {"clusterQueue": cluster_queue_name})


def _object(kind: str, name: str, spec: Raw) -> Raw:
    version = "kueue.x-k8s.io/v1beta2"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
