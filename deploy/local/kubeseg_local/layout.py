"""Where a cluster lies on disk, and which ports and addresses are its own."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
DEFAULT_PORT_BASE = 26443
ENV_DIRECTORY = "KUBESEG_CLUSTER_DIR"
NODE = "kubeseg-local"
LOOPBACK = "127.0.0.1"
# Stands for "no cluster DNS" in what the kubelet tells the runtime.
NO_DNS = "127.0.0.53"
# Inside the cluster's own mount namespace; nothing of it is seen outside.
KUBELET_ROOT = Path("/var/lib/kubelet")
CRI_SOCKET = Path("/var/lib/kubeseg/cri.sock")


def default_directory() -> Path:
    """`KUBESEG_CLUSTER_DIR`, else `.kubeseg/cluster` in this checkout."""
    named = os.environ.get(ENV_DIRECTORY)
    return Path(named) if named else REPOSITORY / ".kubeseg" / "cluster"


@dataclass(frozen=True)
class Ports:
    """The block of ports of a cluster: it begins at `base` and has 400."""

    base: int

    @property
    def api(self) -> int:
        """Port of the API server."""
        return self.base

    @property
    def etcd(self) -> int:
        """Port of etcd."""
        return self.base + 1

    @property
    def etcd_peer(self) -> int:
        """Port that etcd keeps for peers, of which it has none."""
        return self.base + 2

    @property
    def kubelet(self) -> int:
        """Port of the kubelet, for logs."""
        return self.base + 3

    @property
    def kubelet_health(self) -> int:
        """Port of the kubelet's health check."""
        return self.base + 4

    @property
    def controller_manager(self) -> int:
        """Port of the controller manager."""
        return self.base + 5

    @property
    def scheduler(self) -> int:
        """Port of the scheduler."""
        return self.base + 6

    @property
    def node_ports(self) -> tuple[int, int]:
        """First and last port that Services of type NodePort may have."""
        return self.base + 100, self.base + 399

    def named(self) -> dict[int, str]:
        """Port to the name of the component that listens on it."""
        return {
            self.api: "kube-apiserver",
            self.etcd: "etcd",
            self.etcd_peer: "etcd (peers)",
            self.kubelet: "kubelet",
            self.kubelet_health: "kubelet (health)",
            self.controller_manager: "kube-controller-manager",
            self.scheduler: "kube-scheduler",
        }

    @property
    def _octet(self) -> int:
        return 1 + self.base // 100 % 120

    @property
    def pod_prefix(self) -> str:
        """First two numbers of the addresses of pods: "127.25"."""
        return f"127.{self._octet}"

    @property
    def service_range(self) -> str:
        """Address block of Services, in CIDR notation."""
        return f"127.{self._octet + 120}.0.0/16"

    @property
    def api_service_address(self) -> str:
        """Cluster address of the Service `kubernetes`."""
        return f"127.{self._octet + 120}.0.1"


@dataclass(frozen=True)
class Settings:
    """What a cluster was started with; kept in its folder."""

    port_base: int
    gpus: int
    rootless: bool
    bin_dir: str

    @property
    def ports(self) -> Ports:
        """Its ports and addresses."""
        return Ports(self.port_base)

    def save(self, path: Path) -> None:
        """Write to `path`, as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def load(path: Path) -> Settings | None:
        """What `save` wrote, or None where there is no such file, or half of one."""
        try:
            return Settings(**json.loads(path.read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None


@dataclass(frozen=True)
class Layout:
    """The files below a cluster's folder."""

    root: Path

    @property
    def settings(self) -> Path:
        """What it was started with (`Settings`)."""
        return self.root / "cluster.json"

    @property
    def state(self) -> Path:
        """What the supervisor tells (`state.ClusterState`)."""
        return self.root / "state.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def images(self) -> Path:
        """What the names of images mean."""
        return self.root / "images.json"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Configuration of the components."""
        return self.root / "config"

    @property
    def logs(self) -> Path:
        """Logs of the components, one file each."""
        return self.root / "logs"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: who did what."""
        return self.logs / "audit.log"

    @property
    def pod_logs(self) -> Path:
        """Logs of containers."""
        return self.logs / "pods"

    @property
    def etcd(self) -> Path:
        """Etcd's data."""
        return self.root / "etcd"

    @property
    def kubelet(self) -> Path:
        """The kubelet's own files: emptyDir volumes among them."""
        return self.root / "kubelet"

    @property
    def runtime(self) -> Path:
        """The runtime's store, and the containers' own files."""
        return self.root / "runtime"

    @property
    def stubs(self) -> Path:
        """The runtime's protocol as a Python module."""
        return self.root / "stubs"

    @property
    def volumes(self) -> Path:
        """Files of the volumes of class `kubeseg-local`."""
        return self.root / "volumes"

    @property
    def names(self) -> Path:
        """Folder of one hosts file a namespace, kept by the supervisor."""
        return self.root / "names"

    def component_log(self, component: str) -> Path:
        """Where a component's standard output and error go."""
        return self.logs / f"{component}.log"

    def folders(self) -> list[Path]:
        """Folders to make for a new cluster."""
        return [
            self.pki,
            self.config,
            self.logs,
            self.pod_logs,
            self.etcd,
            self.kubelet,
            self.runtime,
            self.stubs,
            self.volumes,
            self.names,
        ]
