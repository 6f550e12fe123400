"""How each component is started: its command line, and what must be up before it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from kubeseg_local.layout import KUBELET_ROOT, LOOPBACK, NODE, Layout, Settings

# Endpoints can't hold loopback addresses, so these could only fail; the Service proxy takes over.
CONTROLLERS_OFF = (
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "node-ipam-controller",
    "node-route-controller",
    "service-lb-controller",
    "cloud-node-lifecycle-controller",
)


@dataclass(frozen=True)
class Component:
    """One process of the cluster."""

    name: str
    command: list[str]
    #: Started only once the API server is ready; else at once.
    needs_api: bool
    #: Where it tells its health (HTTPS unless it says http), or None.
    health: str | None


def all_components(layout: Layout, settings: Settings) -> list[Component]:
    """Every component, in the order of starting."""
    ports = settings.ports
    return [
        Component(
            "etcd",
            _etcd(layout, settings),
            needs_api=False,
            health=None,  # the API server's own readiness asks it
        ),
        Component(
            "kube-apiserver",
            _api_server(layout, settings),
            needs_api=False,
            health=f"https://{LOOPBACK}:{ports.api}/readyz",
        ),
        Component(
            "runtime",
            [sys.executable, "-m", "kubeseg_local.runtime", str(layout.root)],
            needs_api=False,
            health=None,  # the kubelet asks it, and its node's readiness tells
        ),
        Component(
            "kube-controller-manager",
            _controller_manager(layout, settings),
            needs_api=True,
            health=f"https://{LOOPBACK}:{ports.controller_manager}/healthz",
        ),
        Component(
            "kube-scheduler",
            _scheduler(layout, settings),
            needs_api=True,
            health=f"https://{LOOPBACK}:{ports.scheduler}/healthz",
        ),
        Component(
            "kubelet",
            _kubelet(layout, settings),
            needs_api=True,
            health=f"http://{LOOPBACK}:{ports.kubelet_health}/healthz",
        ),
    ]


def _program(settings: Settings, name: str, options: dict[str, object]) -> list[str]:
    return [f"{settings.bin_dir}/{name}", *(f"--{key}={value}" for key, value in options.items())]


def _etcd(layout: Layout, settings: Settings) -> list[str]:
    client = f"https://{LOOPBACK}:{settings.ports.etcd}"
    peer = f"https://{LOOPBACK}:{settings.ports.etcd_peer}"
    pki = layout.pki
    return _program(
        settings,
        "etcd",
        {
            "name": NODE,
            "data-dir": layout.etcd,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"{NODE}={peer}",
            # Any user of this machine can reach the port: only our certificates open it.
            "client-cert-auth": "true",
            "cert-file": pki / "server.crt",
            "key-file": pki / "server.key",
            "trusted-ca-file": pki / "ca.crt",
            "peer-client-cert-auth": "true",
            "peer-cert-file": pki / "server.crt",
            "peer-key-file": pki / "server.key",
            "peer-trusted-ca-file": pki / "ca.crt",
            # The cluster doesn't outlive the machine, so nothing needs to reach the disk in time.
            "unsafe-no-fsync": "true",
            "log-level": "warn",
        },
    )


def _api_server(layout: Layout, settings: Settings) -> list[str]:
    ports, pki = settings.ports, layout.pki
    first, last = ports.node_ports
    return _program(
        settings,
        "kube-apiserver",
        {
            "bind-address": LOOPBACK,
            "secure-port": ports.api,
            "endpoint-reconciler-type": "none",
            "tls-cert-file": pki / "server.crt",
            "tls-private-key-file": pki / "server.key",
            "client-ca-file": pki / "ca.crt",
            "etcd-servers": f"https://{LOOPBACK}:{ports.etcd}",
            "etcd-cafile": pki / "ca.crt",
            "etcd-certfile": pki / "etcd-client.crt",
            "etcd-keyfile": pki / "etcd-client.key",
            "kubelet-certificate-authority": pki / "ca.crt",
            "kubelet-client-certificate": pki / "apiserver-kubelet.crt",
            "kubelet-client-key": pki / "apiserver-kubelet.key",
            "kubelet-preferred-address-types": "InternalIP",
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": pki / "service-accounts.pub",
            "service-account-signing-key-file": pki / "service-accounts.key",
            "service-cluster-ip-range": ports.service_range,
            "service-node-port-range": f"{first}-{last}",
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "allow-privileged": "true",
            "audit-policy-file": layout.config / "audit-policy.json",
            "audit-log-path": layout.audit_log,
            "audit-log-maxsize": 100,
            "audit-log-maxbackup": 1,
            "profiling": "false",
            "v": 1,
        },
    )


def _controller_manager(layout: Layout, settings: Settings) -> list[str]:
    pki = layout.pki
    kubeconfig = layout.config / "controller-manager.kubeconfig"
    return _program(
        settings,
        "kube-controller-manager",
        {
            "kubeconfig": kubeconfig,
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
            "bind-address": LOOPBACK,
            "secure-port": settings.ports.controller_manager,
            "tls-cert-file": pki / "server.crt",
            "tls-private-key-file": pki / "server.key",
            "use-service-account-credentials": "true",
            "service-account-private-key-file": pki / "service-accounts.key",
            "root-ca-file": pki / "ca.crt",
            "cluster-signing-cert-file": pki / "ca.crt",
            "cluster-signing-key-file": pki / "ca.key",
            "controllers": ",".join(["*", *(f"-{each}" for each in CONTROLLERS_OFF)]),
            "leader-elect": "false",
            "profiling": "false",
            "v": 1,
        },
    )


def _scheduler(layout: Layout, settings: Settings) -> list[str]:
    kubeconfig = layout.config / "scheduler.kubeconfig"
    return _program(
        settings,
        "kube-scheduler",
        {
            "kubeconfig": kubeconfig,
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
            "bind-address": LOOPBACK,
            "secure-port": settings.ports.scheduler,
            "tls-cert-file": layout.pki / "server.crt",
            "tls-private-key-file": layout.pki / "server.key",
            "leader-elect": "false",
            "profiling": "false",
            "v": 1,
        },
    )


def _kubelet(layout: Layout, settings: Settings) -> list[str]:
    command = _program(
        settings,
        "kubelet",
        {
            "config": layout.config / "kubelet.json",
            "kubeconfig": layout.config / "kubelet.kubeconfig",
            "root-dir": KUBELET_ROOT,
            "hostname-override": NODE,
            # A loopback address can't be the node's by a flag: the supervisor sets it, as a cloud
            # provider would (see `node.py`).
            "cloud-provider": "external",
            "v": 1,
        },
    )
    if settings.rootless:
        return [sys.executable, "-m", "kubeseg_local.fakechown", *command]
    return command
