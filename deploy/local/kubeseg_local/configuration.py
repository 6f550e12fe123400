"""The files that the components read: kubeconfigs, the kubelet's settings, the audit policy."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

from kubeseg_local.layout import (
    CRI_SOCKET,
    KUBELET_ROOT,
    LOOPBACK,
    NO_DNS,
    REPOSITORY,
    Layout,
    Settings,
)

#: uid of the images of this project, as their Dockerfiles say.
IMAGE_UID = 10001


def kubeconfig(layout: Layout, settings: Settings, client: str) -> dict[str, Any]:
    """A kubeconfig for `client`, complete in itself: it may be copied anywhere."""

    def inline(name: str) -> str:
        return base64.b64encode((layout.pki / name).read_bytes()).decode()

    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "kubeseg-local",
        "contexts": [
            {"name": "kubeseg-local", "context": {"cluster": "kubeseg-local", "user": client}}
        ],
        "clusters": [
            {
                "name": "kubeseg-local",
                "cluster": {
                    "server": f"https://{LOOPBACK}:{settings.ports.api}",
                    "certificate-authority-data": inline("ca.crt"),
                },
            }
        ],
        "users": [
            {
                "name": client,
                "user": {
                    "client-certificate-data": inline(f"{client}.crt"),
                    "client-key-data": inline(f"{client}.key"),
                },
            }
        ],
    }


def kubelet_configuration(layout: Layout, settings: Settings) -> dict[str, Any]:
    """The kubelet's configuration: no cgroups, loopback only, quick to notice changes."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": LOOPBACK,
        "port": settings.ports.kubelet,
        "readOnlyPort": 0,
        "healthzBindAddress": LOOPBACK,
        "healthzPort": settings.ports.kubelet_health,
        "tlsCertFile": str(layout.pki / "server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "server.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{CRI_SOCKET}",
        # No cgroups of our own: limits count for scheduling only.
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupsPerQOS": False,
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "volumeStatsAggPeriod": "-1s",
        # It must not change the machine: no iptables chains, no kernel settings.
        "makeIPTablesUtilChains": False,
        "protectKernelDefaults": False,
        "featureGates": {"KubeletInUserNamespace": True},
        "volumePluginDir": str(KUBELET_ROOT / "volume-plugins"),
        "podLogsDir": str(layout.pod_logs),
        "resolvConf": "",
        # There is no DNS here; without an address, every pod would get an event about it.
        "clusterDNS": [NO_DNS],
        "maxPods": 250,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "syncFrequency": "10s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "shutdownGracePeriod": "0s",
    }


def audit_policy() -> dict[str, Any]:
    """Who did what, without bodies; the control plane's own reads are left out."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "None",
                "users": [
                    "system:apiserver",
                    "system:kube-scheduler",
                    "system:kube-controller-manager",
                ],
            },
            {"level": "None", "userGroups": ["system:nodes"]},
            {"level": "None", "nonResourceURLs": ["/healthz*", "/readyz*", "/livez*", "/metrics"]},
            {"level": "Metadata"},
        ],
    }


def image_map() -> dict[str, Any]:
    """Repository name of an image to what a container of it runs (see `runtime.images`)."""
    # Not resolved: the link in the environment's bin is what makes it this environment.
    python = str(Path(sys.executable))

    def app(module: str) -> dict[str, Any]:
        return {"entrypoint": [python, "-m", module], "uid": IMAGE_UID}

    return {
        "kubeseg-operator": app("kubeseg_operator.main"),
        "kubeseg-api": app("kubeseg_api.main"),
        "kubeseg-trainer": app("kubeseg_trainer.cli"),
        "kubeseg-tools": {"command": ["sh"], "uid": IMAGE_UID},
        "busybox": {"command": ["sh"], "uid": 0},
    }


def write_all(layout: Layout, settings: Settings) -> None:
    """Write every file below the cluster's folder; the certificates must be there."""
    _write(layout.kubeconfig, kubeconfig(layout, settings, "admin"), secret=True)
    for client in ("controller-manager", "scheduler", "kubelet"):
        path = layout.config / f"{client}.kubeconfig"
        _write(path, kubeconfig(layout, settings, client), secret=True)
    _write(layout.config / "kubelet.json", kubelet_configuration(layout, settings))
    _write(layout.config / "audit-policy.json", audit_policy())
    if not layout.images.exists():
        _write(layout.images, {"checkout": str(REPOSITORY), "images": image_map()})


def _write(path: Path, content: dict[str, Any], *, secret: bool = False) -> None:
    with open(path, "w", opener=lambda p, f: os.open(p, f, 0o600 if secret else 0o644)) as file:
        json.dump(content, file, indent=2)
