"""Objects of other people's, which the operator must leave alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubeseg_types.names import LABEL_ATTEMPT, LABEL_JOB

if TYPE_CHECKING:
    from tests.faults.world import World

Raw = dict[str, Any]
#: Namespace and name of the TrainingJob that everything is about.
SPACE, NAME = "team", "job"


def put_foreign_job(world: World) -> None:
    """A Job of somebody else's, with the first attempt's name."""
    _foreign(world, "jobs", {"metadata": {"name": f"{NAME}-1"}, "spec": {"suspend": True}})


def remove_foreign_job(world: World) -> None:
    """Its owner takes it away."""
    del world.dog.foreign["jobs", SPACE, f"{NAME}-1"]
    world.api.delete("jobs", SPACE, f"{NAME}-1", {}, who="user")


def put_strangers(world: World) -> None:
    """Objects that bear our labels, and are not ours."""
    meta: Raw = {"labels": {LABEL_JOB: NAME, LABEL_ATTEMPT: "1"}}
    template = {"suspend": True}
    _foreign(world, "jobs", {"metadata": meta | {"name": "stranger"}, "spec": template})
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "no-uid"}
    owned = meta | {"name": "owned", "ownerReferences": [other | {"controller": True}]}
    _foreign(world, "configmaps", {"metadata": {"name": "c"}})
    uid = world.api.get("configmaps", SPACE, "c")["metadata"]["uid"]
    owned["ownerReferences"][0]["uid"] = uid
    _foreign(world, "jobs", {"metadata": owned, "spec": template})
    for name in ("copy", "debugger"):
        _foreign(world, "pods", {"metadata": meta | {"name": name}, "spec": {"nodeName": "n"}})
        world.api.put_status("pods", SPACE, name, {"phase": "Running"}, who="user")


def _foreign(world: World, plural: str, body: Raw) -> None:
    made = world.api.create(plural, SPACE, body, who="user")
    world.dog.foreign[plural, SPACE, made["metadata"]["name"]] = made
