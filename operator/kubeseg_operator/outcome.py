"""How an attempt ended, read from its Job and what is left of its pods. Pure.

A pod is not to be trusted: its termination message is read leniently, and what does not fit the
contract's bounds is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from kubeseg_operator.views import Child, Pod
from kubeseg_types.exit_codes import ExitCode, Outcome, classify
from kubeseg_types.names import MAX_TERMINATION_BYTES
from kubeseg_types.trainer import TerminationMessage

#: Reasons of a pod that a kubelet or a controller ended before or beside its containers.
_INTERRUPTING = frozenset(
    "Evicted NodeLost NodeShutdown Shutdown Terminated Preempting NodeAffinity "
    "UnexpectedAdmissionError OutOfcpu OutOfmemory OutOfpods OutOfephemeral-storage".split()
)
MAX_EPOCH = 1_000_000
#: What JSON's readers agree on.
MAX_COUNT = 2**53
_SIGNAL = 128
_SIGNALS = {_SIGNAL + 9: "SIGKILL", _SIGNAL + 15: "SIGTERM"}


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended; `told` is what its trainer said."""

    outcome: Outcome
    reason: str
    message: str
    exit_code: int | None = None
    node: str | None = None
    time: str | None = None
    told: TerminationMessage | None = None


def read_termination(text: str) -> TerminationMessage | None:
    """What the trainer left, or None where it is nothing that it could have left."""
    if not text or len(text) > 4 * MAX_TERMINATION_BYTES:
        return None
    try:
        told = TerminationMessage.model_validate(json.loads(text))
    except (ValueError, RecursionError, ValidationError):
        return None
    numbers = [told.epoch, told.epochs, told.start_epoch, told.generation]
    numbers += [metrics.epoch for metrics in (told.last, told.best) if metrics]
    numbers += [told.checkpoint.epoch] if told.checkpoint else []
    if any(not 0 <= number <= MAX_EPOCH for number in numbers):
        return None
    if told.checkpoint and not 0 <= told.checkpoint.step <= MAX_COUNT:
        return None
    if len(told.best_weights or "") > 1024 or len(told.best_sha256 or "") > 64:
        return None
    return told


def clip(text: str, limit: int) -> str:
    """`text` in at most `limit` characters."""
    text = text.strip()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _telling(pods: Iterable[Pod]) -> Pod | None:
    """The pod that tells most: one whose trainer failed, else that ended, else any; newest last."""

    def weight(pod: Pod) -> tuple[bool, bool, str]:
        return (pod.exit_code not in {None, 0}, pod.exit_code is not None, pod.created)

    return max(pods, key=weight, default=None)


def _by_exit_code(pod: Pod, code: int) -> tuple[Outcome, str]:
    outcome, reason = classify(code)
    if pod.end_reason == "OOMKilled":
        return classify(ExitCode.OUT_OF_MEMORY)
    if outcome in {Outcome.SUCCEEDED, Outcome.PERMANENT, Outcome.INTERRUPTED}:
        return outcome, reason
    if pod.disruption:
        return Outcome.INTERRUPTED, pod.disruption
    if pod.reason in _INTERRUPTING:
        return Outcome.INTERRUPTED, pod.reason
    if pod.deleting or pod.gone:
        # Killed after SIGTERM, before it could checkpoint: whoever deleted it meant to.
        return Outcome.INTERRUPTED, "PodDeleted"
    if outcome is Outcome.FAILED and code not in set(ExitCode) and pod.end_reason != "Error":
        return outcome, pod.end_reason or reason
    return outcome, reason


def _words(pod: Pod, code: int, told: TerminationMessage | None) -> str:
    if pod.end_reason == "OOMKilled":
        return "its memory limit was exceeded"
    if told and told.message and told.exit_code == code:
        return told.message
    how = f"killed by {_SIGNALS[code]}" if code in _SIGNALS else f"exit code {code}"
    if told is None and pod.end_message:
        return f"{how}: {pod.end_message}"
    return how


def ending(child: Child | None, pods: Iterable[Pod]) -> Ending:
    """How the attempt ended, of a Job that has finished or is gone, and all its pods."""
    pod = _telling(pods)
    complete = child is not None and child.finished == "Complete"
    if pod is None or (pod.exit_code is None and not pod.reason):
        if complete:
            return Ending(Outcome.SUCCEEDED, "Trained", "", node=pod.node if pod else None)
        if child is None:
            reason, words = "JobDeleted", "its Job was deleted"
        else:
            reason, words = "PodDeleted", "its pod was deleted"
        if pod and pod.disruption:
            reason = pod.disruption
        return Ending(Outcome.INTERRUPTED, reason, words, node=pod.node if pod else None)
    if pod.exit_code is None:
        interrupting = pod.reason in _INTERRUPTING or pod.disruption or pod.deleting or pod.gone
        outcome = Outcome.INTERRUPTED if interrupting else Outcome.FAILED
        words = clip(pod.message or pod.reason, 2000)
        return Ending(outcome, clip(pod.reason, 128), words, node=pod.node, time=pod.ended_at)
    told = read_termination(pod.end_message)
    outcome, reason = _by_exit_code(pod, pod.exit_code)
    if complete:
        outcome, reason = Outcome.SUCCEEDED, "Trained"
    elif outcome is Outcome.SUCCEEDED and child is not None:
        # The trainer ended well, yet the Job failed: the pod was taken away around its end.
        outcome, reason = Outcome.INTERRUPTED, "JobFailed"
    return Ending(
        outcome,
        clip(reason, 128),
        clip(_words(pod, pod.exit_code, told), 2000),
        exit_code=pod.exit_code,
        node=pod.node,
        time=pod.ended_at,
        told=told,
    )
