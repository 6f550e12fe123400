from __future__ import annotations

from typing import Any

import pytest

from kubeseg_local.addressing import Backend, hosts_lines, listeners, serving, target_port
from kubeseg_local.layout import Ports


def pod(name: str, ip: str = "127.1.0.1", *, ready: bool = True, **extra: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "a", "labels": {"app": "web"}, **extra},
        "spec": {
            "hostname": name,
            "subdomain": "peers",
            "containers": [{"ports": [{"name": "http", "containerPort": 8000}]}],
        },
        "status": {
            "podIP": ip,
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "a"},
        "spec": {
            "clusterIP": "127.121.0.9",
            "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": "http"}],
            **spec,
        },
    }


def without_address(each: dict[str, Any]) -> dict[str, Any]:
    del each["status"]["podIP"]
    return each


def ended(each: dict[str, Any]) -> dict[str, Any]:
    each["status"]["phase"] = "Succeeded"
    return each


def elsewhere(each: dict[str, Any]) -> dict[str, Any]:
    each["metadata"]["namespace"] = "b"
    return each


@pytest.mark.parametrize(
    ("one", "spec", "serves"),
    [
        (pod("p"), {}, True),
        (pod("p", ready=False), {}, False),
        (pod("p", ready=False), {"publishNotReadyAddresses": True}, True),
        (pod("p", deletionTimestamp="now"), {}, False),
        (pod("p", labels={"app": "other"}), {}, False),
        (pod("p", labels={"app": "web", "more": "x"}), {}, True),
        (without_address(pod("p")), {"publishNotReadyAddresses": True}, False),
        (ended(pod("p")), {"publishNotReadyAddresses": True}, False),
        (elsewhere(pod("p")), {}, False),
        (pod("p"), {"selector": None}, False),
    ],
)
def test_which_pods_stand_behind_a_service(
    one: dict[str, Any], spec: dict[str, Any], serves: bool
) -> None:
    assert bool(serving(service(**spec), [one])) is serves


@pytest.mark.parametrize(
    ("port", "number"),
    [
        ({"port": 80}, 80),
        ({"port": 80, "targetPort": 9000}, 9000),
        ({"port": 80, "targetPort": "http"}, 8000),
        ({"port": 80, "targetPort": "nothing"}, None),
    ],
)
def test_target_port(port: dict[str, Any], number: int | None) -> None:
    assert target_port(port, pod("p")) == number


def test_listeners_by_type_of_service() -> None:
    api = {
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": "127.121.0.1", "ports": [{"port": 443}]},
    }
    services = [
        service(),
        service("node", clusterIP="127.121.0.10", ports=[{"port": 81, "nodePort": 26600}]),
        service("headless", clusterIP="None"),
        service("elsewhere", type="ExternalName"),
        service("udp", clusterIP="127.121.0.11", ports=[{"port": 53, "protocol": "UDP"}]),
        service("empty", clusterIP="127.121.0.12", selector={"app": "none"}),
        api,
    ]
    pods = [pod("p", "127.1.0.1"), pod("q", "127.1.0.2")]
    both = [Backend("127.1.0.1", 8000), Backend("127.1.0.2", 8000)]
    plain = [Backend("127.1.0.1", 81), Backend("127.1.0.2", 81)]
    assert listeners(services, pods, api_port=26443) == {
        ("127.121.0.9", 80): both,
        ("127.121.0.10", 81): plain,
        ("127.0.0.1", 26600): plain,
        ("127.121.0.12", 80): [],
        ("127.121.0.1", 443): [Backend("127.0.0.1", 26443)],
    }


def test_names_of_services_and_pods() -> None:
    services = [service(), service("peers", clusterIP="None")]
    pods = [pod("p"), pod("q", "127.1.0.2", ready=False)]
    assert hosts_lines("a", services, pods) == [
        "127.1.0.1\tp.peers p.peers.a p.peers.a.svc p.peers.a.svc.cluster.local",
        "127.1.0.1\tpeers peers.a peers.a.svc peers.a.svc.cluster.local",
        "127.121.0.9\tweb web.a web.a.svc web.a.svc.cluster.local",
    ]
    # From another namespace a name needs its namespace.
    assert hosts_lines("b", services, []) == [
        "127.121.0.9\tweb.a web.a.svc web.a.svc.cluster.local"
    ]


def test_port_blocks_and_addresses_of_clusters_side_by_side() -> None:
    bases = [26443, 28443, 28943, 29443, 29943, 30443]
    ports = [Ports(base) for base in bases]
    assert len({each.pod_prefix for each in ports} | {e.service_range for e in ports}) == 12
    for each in ports:
        assert len(each.named()) == 7
        assert max(each.named()) < each.node_ports[0]
        assert each.node_ports[1] < each.base + 400
        assert each.api_service_address == each.service_range.removesuffix(".0/16") + ".1"
    assert Ports(26443).pod_prefix == "127.25"
    assert Ports(26443).service_range == "127.145.0.0/16"
