"""The operator's rights as the chart gives them, and which test makes use of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.audit_log import by_account
from tests.support.cluster import ROOT, Namespace, TestCluster

ACCOUNT = "kubeseg-operator"
LEASE = "kubeseg-operator"
CHART = ROOT / "charts" / "kubeseg"
Manifest = dict[str, Any]


class Right(NamedTuple):
    """One verb on one resource; a subresource as in a rule: `trainingjobs/status`."""

    group: str
    resource: str
    verb: str


_CLUSTER = "tests/integration/test_operator_cluster.py"
_GROUPS = "tests/integration/test_operator_groups.py"
#: Values that give the operator all that the chart may give it.
EVERYTHING = ("--set", "kueue.enabled=true")
_LIFE = f"{_CLUSTER}::test_a_whole_life_takes_few_writes"
_DRIFT = (
    "tests/integration/test_drift_cluster.py::"
    "test_what_others_change_of_a_job_is_put_right_and_its_pod_goes_on"
)
_LOST = "test_a_node_that_does_not_answer_is_named_and_given_up"

#: Each right that the chart gives, and the test that makes the operator use it. A new rule belongs
#: here with a test of its own; what the API server saw is compared when the session ends.
EXERCISED: dict[Right, str] = {
    Right("kubeseg.dev", "trainingjobs", "list"): _LIFE,
    Right("kubeseg.dev", "trainingjobs", "watch"): _LIFE,
    Right(
        "kubeseg.dev", "trainingjobs", "get"
    ): f"{_CLUSTER}::test_what_others_change_meanwhile_is_kept",
    Right("kubeseg.dev", "trainingjobs", "delete"): f"{_CLUSTER}::test_ttl_deletes_the_trainingjob",
    Right(
        "kubeseg.dev", "trainingjobs", "patch"
    ): f"{_CLUSTER}::test_the_finalizer_comes_and_goes_with_the_wish",
    Right("kubeseg.dev", "trainingjobs/status", "update"): _LIFE,
    Right("batch", "jobs", "list"): _LIFE,
    Right("batch", "jobs", "watch"): _LIFE,
    Right("batch", "jobs", "get"): f"{_CLUSTER}::test_a_deleted_child_job_is_an_interruption",
    Right("batch", "jobs", "create"): _LIFE,
    Right("batch", "jobs", "delete"): f"{_CLUSTER}::test_suspend_and_resume",
    Right("batch", "jobs", "patch"): _DRIFT,
    Right("", "pods", "list"): _LIFE,
    Right("", "pods", "watch"): _LIFE,
    Right(
        "", "pods", "patch"
    ): f"{_CLUSTER}::test_live_edits_reach_the_trainer_and_are_acknowledged",
    Right("", "pods", "delete"): f"{_CLUSTER}::{_LOST}",
    Right(
        "", "persistentvolumeclaims", "get"
    ): f"{_CLUSTER}::test_a_claim_that_no_class_serves_is_said",
    Right("", "nodes", "list"): f"{_CLUSTER}::test_why_it_does_not_run",
    Right("", "events", "list"): f"{_CLUSTER}::test_why_it_does_not_run",
    Right("", "events", "create"): _LIFE,
    Right("", "services", "get"): f"{_GROUPS}::test_the_first_real_end_of_several_is_the_attempts",
    Right(
        "", "services", "create"
    ): f"{_GROUPS}::test_the_first_real_end_of_several_is_the_attempts",
    Right(
        "", "services", "update"
    ): f"{_GROUPS}::test_a_deleted_worker_starts_all_again_and_edits_reach_all",
    Right(
        "kueue.x-k8s.io", "workloads", "list"
    ): f"{_GROUPS}::test_waiting_admitted_preempted_and_admitted_again",
    Right("coordination.k8s.io", "leases", "get"): _LIFE,
    Right("coordination.k8s.io", "leases", "create"): _LIFE,
    Right("coordination.k8s.io", "leases", "update"): _LIFE,
}


def granted(manifests: list[Manifest]) -> set[Right]:
    """What the operator's roles in these manifests allow."""
    roles = [m for m in manifests if m["kind"] in {"Role", "ClusterRole"}]
    return {
        Right(group, resource, verb)
        for role in roles
        if role["metadata"]["name"] in {ACCOUNT, f"{ACCOUNT}-lease"}
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(cluster: TestCluster) -> set[Right]:
    """What the API server was asked for by operators, allowed or not. Discovery needs no right."""
    return {
        _right(entry["verb"], entry["objectRef"])
        for entry in by_account(cluster, ACCOUNT)
        if "resource" in entry.get("objectRef", {})
    }


def _right(verb: str, target: Manifest) -> Right:
    part = target.get("subresource")
    resource = f"{target['resource']}/{part}" if part else target["resource"]
    return Right(target.get("apiGroup", ""), resource, verb)


def rendered(cluster: TestCluster, *arguments: str) -> list[Manifest]:
    """The chart's manifests with these arguments of `helm template`."""
    text = cluster.helm("template", "kubeseg", str(CHART), *arguments)
    return [m for m in yaml.safe_load_all(text) if m]


def _for_account(manifests: list[Manifest], account: str) -> Iterator[Manifest]:
    for manifest in manifests:
        if re.match(rf"{ACCOUNT}(-lease)?$", manifest["metadata"]["name"]):
            if manifest["kind"] == "Role":
                yield manifest
            elif manifest["kind"] == "RoleBinding":
                manifest["metadata"]["name"] += f"-of-{account}"
                manifest["subjects"][0]["name"] = account
                yield manifest


def operators_kubeconfig(
    place: Namespace, folder: Path, account: str = ACCOUNT, *values: str
) -> Path:
    """A kubeconfig with the rights that the chart, with these `values` (arguments of helm), gives
    the operator for this one namespace.
    """
    place.kubectl("create", "serviceaccount", account)
    scope = ("--namespace", place.name, "--set", f"operator.namespaces={{{place.name}}}")
    place.apply(*_for_account(rendered(place.cluster, *scope, *values), account))
    file = folder / f"{place.name}-{account}.kubeconfig"
    place.cluster.write_kubeconfig(file, place.name, account)
    return file
