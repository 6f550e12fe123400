"""What nodes offer, as far as it may be seen, in words for someone whose job fits on none. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kubeseg_operator.views import Raw
from kubeseg_types.spec import Toleration, TrainingJobSpec

_KEEPING_OUT = frozenset({"NoSchedule", "NoExecute"})
#: Taints that come and go with a node's health: tolerating them is no remedy.
_HEALTH = "node.kubernetes.io/"

#: Key, value, effect.
Taint = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `used` is None where pods of all namespaces may not be read."""

    name: str
    offers: dict[str, int]
    used: dict[str, int] | None
    taints: tuple[Taint, ...]
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


def about_taints(nodes: Sequence[Node], spec: TrainingJobSpec) -> tuple[str, str]:
    """Which taints keep the job from nodes with as many GPUs, and what is to be done."""
    wanted, resource = spec.resources.gpus, spec.resources.gpu_resource
    fitting = [node for node in nodes if node.offers.get(resource, 0) >= wanted]
    kept = [_in_the_way(node, spec) for node in fitting if node.usable]
    ways = [
        foreign
        for taints in kept
        if (foreign := [taint for taint in taints if not taint[0].startswith(_HEALTH)])
    ]
    if ways:
        # What one node needs is enough, and the control plane is no place for guests.
        easiest = min(ways, key=lambda way: (_is_control_plane(way), len(way), way))
        names = sorted({_named(taint) for way in ways for taint in way})
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        wish = ", ".join(map(_toleration, easiest))
        return f"Not tolerated: {', '.join(names[:5])}{more}.", f"add to spec.tolerations: {wish}"
    ill = sorted({key for node in fitting for key, _, _ in _in_the_way(node, spec)})
    ill = [key for key in ill if key.startswith(_HEALTH)]
    if ill:
        return "", f"wait until the nodes are healthy ({', '.join(ill)})"
    if nodes:
        return "", "look at the nodes' taints (kubectl describe nodes)"
    return "", (
        "add to spec.tolerations what the nodes' taints need (kubectl describe nodes names them)"
    )


def _in_the_way(node: Node, spec: TrainingJobSpec) -> list[Taint]:
    return sorted(
        taint
        for taint in node.taints
        if taint[2] in _KEEPING_OUT
        and not any(_tolerates(each, *taint) for each in spec.tolerations or [])
    )


def _is_control_plane(taints: list[Taint]) -> bool:
    return any(key == "node-role.kubernetes.io/control-plane" for key, _, _ in taints)


def _named(taint: Taint) -> str:
    key, value, effect = taint
    return f"{key}{f'={value}' if value else ''}:{effect}"


def _toleration(taint: Taint) -> str:
    """As YAML has it."""
    key, value, effect = taint
    what = f'value: "{value}"' if value else "operator: Exists"
    return f"{{key: {key}, {what}, effect: {effect}}}"


def _tolerates(toleration: Toleration, key: str, value: str, effect: str) -> bool:
    if toleration.effect not in {None, effect}:
        return False
    if not toleration.key:
        return toleration.operator == "Exists"
    same = toleration.operator == "Exists" or (toleration.value or "") == value
    return toleration.key == key and same
