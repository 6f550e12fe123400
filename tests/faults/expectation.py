"""How a run must end: the state of the undisturbed one, as the scenario states it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kubeseg_types.names import PLURAL
from tests.faults.objects import finished, terminal
from tests.faults.scenarios import Scenario
from tests.faults.watchdog import true_conditions

if TYPE_CHECKING:
    from tests.faults.world import World

Raw = dict[str, Any]


def shortcomings(world: World) -> list[str]:
    """What is not yet as it must be in the end; empty once all is."""
    scenario, missing = world.scenario, []
    for where, raw in world.dog.foreign.items():
        if _others_part(world.api.find(*where) or {}) != _others_part(raw):
            missing.append(f"{where} is not as its owner made it")
    if scenario.phase is None:
        goes = scenario.spec.get("artifacts", {}).get("onDelete") == "Delete"
        # A Job made behind everybody's back after the clean-up trains until it is collected.
        late = goes and world.schedule.late_writers
        if not late and [run for run in world.cluster.runs.values() if run.removed != goes]:
            missing.append(f"the run {'is still' if goes else 'is no longer'} in the workspace")
        left = [w for w in world.api.objects if w[0] in {PLURAL, "jobs", "pods", "services"}]
        return missing + [f"{where} is still there" for where in left]
    job = world.job()
    if not job:
        return [*missing, "there is no TrainingJob"]
    status = job.get("status", {})
    if (
        scenario.unheard
        and world.schedule.disturbed
        and not status.get("progress", {}).get("epoch")
    ):
        true = [c["reason"] for c in true_conditions(status)]
        if status.get("phase") == "Failed" and true == [scenario.unheard]:
            return missing + _of_children(world, scenario)
    if scenario.also is not None:
        missing += scenario.also(world)
    return missing + _of_status(world, scenario, job) + _of_children(world, scenario)


def _others_part(raw: Raw) -> Raw:
    """Without what the cluster's own controllers write."""
    meta = {k: v for k, v in raw.get("metadata", {}).items() if k != "resourceVersion"}
    return {"metadata": meta, "spec": raw.get("spec", {})}


def _of_status(world: World, scenario: Scenario, job: Raw) -> list[str]:
    status, missing = job.get("status", {}), []
    if status.get("phase") != scenario.phase:
        missing.append(f"phase {status.get('phase')}, not {scenario.phase}")
    true = [f"{c['type']}/{c['reason']}" for c in true_conditions(status)]
    reasons = scenario.reasons if world.schedule.disturbed else scenario.reasons[:1]
    if true and true[0].partition("/")[2] not in reasons:
        missing.append(f"reason {true[0]}, not {' or '.join(reasons)}")
    if status.get("observedGeneration") != job["metadata"]["generation"]:
        missing.append("the newest generation is not observed")
    story = " ".join(f"{a.get('outcome')}/{a.get('reason')}" for a in status.get("attempts", []))
    if not re.fullmatch(_pattern(world, scenario), story):
        missing.append(f"attempts {story!r}, not {scenario.story!r}")
    missing += _of_progress(world, scenario, job)
    return missing


def _pattern(world: World, scenario: Scenario) -> str:
    if scenario.allowed is not None and (world.schedule.disturbed or not scenario.story):
        return scenario.allowed
    return re.escape(scenario.story)


def _of_progress(world: World, scenario: Scenario, job: Raw) -> list[str]:
    status, missing = job.get("status", {}), []
    done = status.get("progress", {}).get("epoch", 0)
    wanted = scenario.done
    if wanted is None and scenario.phase == "Succeeded":
        wanted = scenario.epochs
    if isinstance(wanted, int):
        wanted = (wanted, wanted)
    if scenario.phase == "Suspended" and world.schedule.disturbed and not done:
        wanted = None  # The pod could not be asked, and was gone before its last words were read.
    if wanted and not wanted[0] <= done <= wanted[1]:
        missing.append(f"{done} epochs, not {wanted}")
    if scenario.phase == "Succeeded":
        if done != world.epochs():
            missing.append(f"{done} epochs in status, {world.epochs()} in the workspace")
        best = status.get("metrics", {}).get("best", {})
        if best.get("epoch") != done:
            missing.append(f"best metrics of {best}, not of epoch {done}")
        epochs = status.get("finished", {}).get("epochs")
        wanted_epochs = scenario.finished_epochs or scenario.epochs
        if epochs != wanted_epochs:
            missing.append(f"finished.epochs {epochs}, not {wanted_epochs}")
    return missing


def _of_children(world: World, scenario: Scenario) -> list[str]:
    if scenario.phase == "Blocked":
        return [f"{c['metadata']['name']} is there" for c in world.children()]
    waits = scenario.phase == "Queued"
    alive = [c["metadata"]["name"] for c in world.children() if not (finished(c) or waits)]
    ours = {c["metadata"]["uid"] for c in world.children()}
    pods = [
        p["metadata"]["name"]
        for p in world.api.all("pods")
        if not terminal(p)
        and any(r["uid"] in ours for r in p["metadata"].get("ownerReferences", []))
    ]
    others = [
        raw["metadata"]["name"]
        for raw in world.api.all(PLURAL)
        if raw.get("status", {}).get("phase") != "Succeeded"
        and raw["metadata"]["name"] != world.job()["metadata"]["name"]
    ]
    return (
        [f"Job {name} is alive" for name in alive]
        + [f"pod {name} is alive" for name in pods]
        + [f"TrainingJob {name} has not succeeded" for name in others]
    )
