"""What nodes offer, as far as it may be seen, in words for someone whose job fits on none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubeseg_operator.views import Raw
from kubeseg_types.spec import Toleration, TrainingJobSpec

_KEEPING_OUT = frozenset({"NoSchedule", "NoExecute"})
#: Taints that come and go with a node's health: tolerating them is no remedy.
_HEALTH = "node.kubernetes.io/"


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `used` is None where pods of all namespaces may not be read."""

    name: str
    offers: dict[str, int]
    used: dict[str, int] | None
    taints: tuple[tuple[str, str, str], ...]
    usable: bool


def node_of(raw: Raw, used: dict[str, int] | None) -> Node:
    """A Node of the API; only extended resources count (those with a domain, such as GPUs)."""
    status, spec = raw.get("status") or {}, raw.get("spec") or {}
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True"
        for c in status.get("conditions") or []
    )
    return Node(
        name=(raw.get("metadata") or {}).get("name", ""),
        offers={n: count(q) for n, q in (status.get("allocatable") or {}).items() if "/" in n},
        used=used,
        taints=tuple(
            (t.get("key", ""), t.get("value", ""), t.get("effect", ""))
            for t in spec.get("taints") or []
        ),
        usable=ready and not spec.get("unschedulable"),
    )


def count(quantity: object) -> int:
    """A whole quantity, as extended resources have it; 0 where it is none."""
    text = str(quantity)
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def requests(pod: Raw) -> dict[str, int]:
    """Extended resources that a Pod of the API holds."""
    held: dict[str, int] = {}
    for container in (pod.get("spec") or {}).get("containers") or []:
        wanted = (container.get("resources") or {}).get("requests") or {}
        for name, quantity in wanted.items():
            if "/" in name:
                held[name] = held.get(name, 0) + count(quantity)
    return held


def about_gpus(nodes: Sequence[Node], spec: TrainingJobSpec) -> str:
    """How many GPUs there are, on how many nodes, and how many are free; empty: they aren't it."""
    wanted, resource = spec.resources.gpus, spec.resources.gpu_resource
    having = [node for node in nodes if node.offers.get(resource)]
    if not wanted or not nodes:
        return ""
    if not having:
        others = sorted({name for node in nodes for name, n in node.offers.items() if n})
        there = f" They offer {', '.join(others[:5])}." if others else ""
        return (
            f"No node offers {resource}.{there} Look at spec.resources.gpuResource, and whether "
            "the vendor's device plugin runs."
        )
    total = sum(node.offers[resource] for node in having)
    largest = max(node.offers[resource] for node in having)
    where = "1 node" if len(having) == 1 else f"{len(having)} nodes"
    if largest < wanted:
        return (
            f"There are {total} {resource} on {where}, at most {largest} on one. Ask for at most "
            f"{largest} in spec.resources.gpus."
        )
    large = [node for node in having if node.offers[resource] >= wanted and node.usable]
    if not large:
        return f"There are {total} {resource} on {where}, but those are cordoned or not ready."
    free = [
        node.offers[resource] - node.used.get(resource, 0)
        for node in large
        if node.used is not None
    ]
    if not free:
        return f"There are {total} {resource} on {where}."
    most = max([0, *free])
    if most >= wanted:
        return ""
    return (
        f"There are {total} {resource} on {where}, but at most {most} of one node are free: it "
        "starts as soon as other pods have left enough."
    )


def taints_in_the_way(nodes: Iterable[Node], spec: TrainingJobSpec) -> list[str]:
    """Taints, as key=value:effect, that keep the job from usable nodes with as many GPUs."""
    wanted, resource = spec.resources.gpus, spec.resources.gpu_resource
    found = {
        f"{key}{f'={value}' if value else ''}:{effect}"
        for node in nodes
        if node.usable and node.offers.get(resource, 0) >= wanted
        for key, value, effect in node.taints
        if effect in _KEEPING_OUT
        and not key.startswith(_HEALTH)
        and not any(_tolerates(each, key, value, effect) for each in spec.tolerations or [])
    }
    return sorted(found)


def _tolerates(toleration: Toleration, key: str, value: str, effect: str) -> bool:
    if toleration.effect not in {None, effect}:
        return False
    if not toleration.key:
        return toleration.operator == "Exists"
    same = toleration.operator == "Exists" or (toleration.value or "") == value
    return toleration.key == key and same
