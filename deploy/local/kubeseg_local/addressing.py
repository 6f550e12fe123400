"""Which Service leads where, and what the names of Services and pods stand for: pure functions.

There is no kube-proxy and no DNS here: the supervisor listens on each Service's address itself,
and names go into the hosts file of each pod.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubeseg_local.kube import Manifest
from kubeseg_local.layout import LOOPBACK

DOMAIN = "cluster.local"


@dataclass(frozen=True)
class Backend:
    """Where a connection goes."""

    address: str
    port: int


Listen = tuple[str, int]


def _selected(service: Manifest, pods: list[Manifest]) -> list[Manifest]:
    selector = service["spec"].get("selector")
    if not selector:
        return []
    return [
        pod
        for pod in pods
        if pod["metadata"]["namespace"] == service["metadata"]["namespace"]
        and selector.items() <= pod["metadata"].get("labels", {}).items()
        and pod.get("status", {}).get("podIP")
        and pod["status"].get("phase") not in {"Succeeded", "Failed"}
    ]


def is_ready(pod: Manifest) -> bool:
    """Whether the pod takes connections: Ready, and not on its way out."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def serving(service: Manifest, pods: list[Manifest]) -> list[Manifest]:
    """The pods that stand behind the Service now."""
    everyone = service["spec"].get("publishNotReadyAddresses", False)
    return [pod for pod in _selected(service, pods) if everyone or is_ready(pod)]


def target_port(port: Manifest, pod: Manifest) -> int | None:
    """The number that a Service's port means in this pod; None for a name it doesn't have."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for each in container.get("ports", []):
            if each.get("name") == target:
                return int(each["containerPort"])
    return None


def listeners(
    services: list[Manifest], pods: list[Manifest], api_port: int
) -> dict[Listen, list[Backend]]:
    """(address, port) to listen on, and where its connections may go (perhaps nowhere, yet)."""
    wanted: dict[Listen, list[Backend]] = {}
    for service in services:
        spec = service["spec"]
        address = spec.get("clusterIP", "None")
        if address in {"", "None"} or spec.get("type") == "ExternalName":
            continue
        metadata = service["metadata"]
        behind = serving(service, pods)
        for port in spec.get("ports", []):
            if port.get("protocol", "TCP") != "TCP":
                continue
            if (metadata["namespace"], metadata["name"]) == ("default", "kubernetes"):
                backends = [Backend(LOOPBACK, api_port)]
            else:
                backends = [
                    Backend(pod["status"]["podIP"], number)
                    for pod in behind
                    if (number := target_port(port, pod)) is not None
                ]
            wanted[address, port["port"]] = backends
            if port.get("nodePort"):
                wanted[LOOPBACK, port["nodePort"]] = backends
    return wanted


def _forms(name: str, namespace: str, *, local: bool) -> list[str]:
    full = f"{name}.{namespace}"
    forms = [full, f"{full}.svc", f"{full}.svc.{DOMAIN}"]
    return [name, *forms] if local else forms


def hosts_lines(namespace: str, services: list[Manifest], pods: list[Manifest]) -> list[str]:
    """Lines of the hosts file of every pod in `namespace`, sorted."""
    lines = set()
    for service in services:
        metadata, spec = service["metadata"], service["spec"]
        local = metadata["namespace"] == namespace
        names = " ".join(_forms(metadata["name"], metadata["namespace"], local=local))
        address = spec.get("clusterIP", "None")
        if address not in {"", "None"}:
            lines.add(f"{address}\t{names}")
            continue
        for pod in serving(service, pods):
            lines.add(f"{pod['status']['podIP']}\t{names}")
            lines.update(_pod_lines(pod, metadata, local=local))
    return sorted(lines)


def _pod_lines(pod: Manifest, service: Manifest, *, local: bool) -> list[str]:
    """The name of a pod of a headless Service: `<hostname>.<subdomain>`, as Job pods have."""
    spec = pod["spec"]
    if spec.get("subdomain") != service["name"] or not spec.get("hostname"):
        return []
    name = f"{spec['hostname']}.{service['name']}"
    names = " ".join(_forms(name, service["namespace"], local=local))
    return [f"{pod['status']['podIP']}\t{names}"]
