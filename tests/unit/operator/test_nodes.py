"""What is said of nodes where a job fits on none."""

from __future__ import annotations

from typing import Any

import pytest

from kubeseg_operator.decide import Ask, Observed
from kubeseg_operator.nodes import node_of
from kubeseg_operator.obstacle import EDITED
from kubeseg_operator.obstacles import unschedulable
from tests.support.operator_decisions import look, pending
from tests.support.operator_objects import attempt, child, job
from tests.support.operator_obstacles import refused, spec, why


def node(name: str, gpus: int, held: int | None = None, **fields: Any) -> dict[str, Any]:
    resources = {"cpu": "8"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {"amd.com/gpu": "2"})
    ready = {"type": "Ready", "status": fields.pop("ready", "True")}
    seen = {} if held is None else {"held": {"nvidia.com/gpu": held}}
    return {
        "metadata": {"name": name},
        "spec": fields,
        "status": {"allocatable": resources, "conditions": [ready]},
    } | seen


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
LACKING = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: none"
OTHERS = "ask for less in spec.resources, or wait for a node with so much free"


@pytest.mark.parametrize(
    ("wanted", "nodes", "words"),
    [
        (1, [], OTHERS),  # nodes may not be read
        (
            1,
            [node("a", 0)],
            (
                "No node offers nvidia.com/gpu. They offer amd.com/gpu. Look at "
                "spec.resources.gpuResource, and whether the vendor's device plugin runs."
            ),
        ),
        (
            8,
            [node("a", 4), node("b", 2)],
            (
                "There are 6 nvidia.com/gpu on 2 nodes, at most 4 on one. Ask for at most 4 in "
                "spec.resources.gpus."
            ),
        ),
        (2, [node("a", 4), node("b", 2)], "There are 6 nvidia.com/gpu on 2 nodes."),
        (
            2,
            [node("a", 4, 3), node("b", 2, 2)],
            (
                "There are 6 nvidia.com/gpu on 2 nodes, but at most 1 of one node are free: it "
                "starts as soon as other pods have left enough."
            ),
        ),
        (
            1,
            [node("a", 4, 9)],  # more is held than there is: a node that has lost some
            "on 1 node, but at most 0 of one node are free",
        ),
        (1, [node("a", 4, 3)], OTHERS),  # one is free: it is something else
        (
            1,
            [node("a", 4, 0, unschedulable=True), node("b", 4, 0, ready="Unknown")],
            "but those are cordoned or not ready.",
        ),
    ],
)
def test_how_many_gpus_there_are_and_how_many_are_free(
    wanted: int, nodes: list[dict[str, Any]], words: str
) -> None:
    seen = [node_of(raw, raw.get("held")) for raw in nodes]
    found = unschedulable(LACKING, spec(resources={"gpus": wanted}), seen)
    assert found.reason == "Unschedulable"
    assert words in found.message
    assert (OTHERS in found.message) is (words == OTHERS)


HEALTH = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
TAINTED = "0/2 nodes are available: 2 node(s) had untolerated taint(s)."
NONE_LEFT = "To do: look at the nodes' taints (kubectl describe nodes)."


@pytest.mark.parametrize(
    ("tolerations", "words"),
    [
        ([], "Not tolerated: gpu=yes:NoSchedule."),
        (
            [],
            'add to spec.tolerations: {key: gpu, value: "yes", effect: NoSchedule}. An edit is',
        ),
        ([{"operator": "Exists", "effect": "NoExecute"}], "gpu=yes:NoSchedule."),
        ([{"key": "gpu", "value": "no"}], "gpu=yes:NoSchedule."),
        ([{"key": "gpu", "operator": "Exists"}], "healthy (node.kubernetes.io/not-ready)."),
        ([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}], "wait until"),
    ],
)
def test_taints_are_named(tolerations: list[dict[str, Any]], words: str) -> None:
    nodes = (node("a", 2, taints=[TAINT, HEALTH]), node("small", 0, taints=[TAINT | {"key": "x"}]))
    found = why(
        TAINTED,
        {"resources": {"gpus": 1}, "tolerations": tolerations},
        answers={Ask.NODES: nodes},
    )
    assert found is not None
    assert words in found.message
    assert "key: x" not in found.message


@pytest.mark.parametrize(
    ("taints", "words"),
    [
        (
            [[TAINT, {"key": "b", "effect": "NoExecute"}], [TAINT | {"key": "c"}]],
            (
                "b:NoExecute, c=yes:NoSchedule, gpu=yes:NoSchedule. To do: add to "
                'spec.tolerations: {key: c, value: "yes", effect: NoSchedule}.'
            ),
        ),
        (
            [[TAINT, {"key": "b", "effect": "NoExecute"}]],
            (
                "add to spec.tolerations: {key: b, operator: Exists, effect: NoExecute}, "
                '{key: gpu, value: "yes", effect: NoSchedule}.'
            ),
        ),
        (  # no place for guests, as long as there is another
            [[{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}], [TAINT]],
            "add to spec.tolerations: {key: gpu,",
        ),
        ([[]], NONE_LEFT),
    ],
)
def test_what_to_tolerate_is_what_one_node_needs(
    taints: list[list[dict[str, str]]], words: str
) -> None:
    nodes = [node_of(node(str(n), 0, taints=each), None) for n, each in enumerate(taints)]
    assert words in unschedulable(TAINTED, spec(), nodes).message


def test_taints_are_read_for_a_job_without_gpus_too() -> None:
    stuck = pending(node=None, conditions=refused(TAINTED))
    known = job(status={"attempts": [attempt()]})
    assert look(known, Observed(children=(child(),), pods=(stuck,))).ask is Ask.NODES


def test_nodes_are_not_read_for_a_job_without_gpus() -> None:
    found = why("0/1 nodes are available: 1 Insufficient cpu.", {}, confirmed=frozenset())
    assert found is not None
    assert found.message.endswith(f"1 Insufficient cpu. To do: {OTHERS}.{EDITED}")
