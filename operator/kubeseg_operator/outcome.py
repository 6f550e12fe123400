"""How an attempt ended, read from its Job and what is left of its pods. Pure.

A pod is not to be trusted: its termination message is read leniently, and what does not fit the
contract's bounds is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import ValidationError

from kubeseg_operator.cause import Verdict, first_cause, newest_of_each, nodes_of
from kubeseg_operator.views import Child, Pod, Raw
from kubeseg_types.exit_codes import ExitCode, Outcome, classify
from kubeseg_types.names import MAX_TERMINATION_BYTES
from kubeseg_types.trainer import TerminationMessage

#: Reasons of a pod that a kubelet or a controller ended before or beside its containers.
_INTERRUPTING = frozenset(
    "Evicted NodeLost NodeShutdown Shutdown Terminated Preempting NodeAffinity "
    "UnexpectedAdmissionError OutOfcpu OutOfmemory OutOfpods OutOfephemeral-storage".split()
)
#: What a kubelet calls the end of a container whose memory limit was exceeded.
OOM_KILLED = "OOMKilled"
#: What we call its end where its kubelet had it killed for not answering; pods don't tell that.
_UNRESPONSIVE = "LivenessProbe"
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
    #: When its trainers had begun.
    start: str | None = None


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


def tail(text: str, limit: int = 700) -> str:
    """The last lines of `text`, in one line of at most `limit` characters."""
    words = " | ".join(line.strip() for line in text.splitlines() if line.strip())
    return words if len(words) <= limit else f"…{words[1 - limit :]}"


def _by_exit_code(pod: Pod, code: int) -> tuple[Outcome, str]:
    outcome, reason = classify(code)
    if outcome in {Outcome.SUCCEEDED, Outcome.PERMANENT, Outcome.INTERRUPTED}:
        # Also where the kernel has killed some process of the container, and the trainer coped.
        return outcome, reason
    if pod.end_reason == OOM_KILLED:
        return classify(ExitCode.OUT_OF_MEMORY)
    if pod.end_reason == _UNRESPONSIVE:
        return classify(ExitCode.STALLED)
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
    if told and told.message and told.exit_code == code:
        return told.message
    if pod.end_reason == OOM_KILLED:
        return "its memory limit was exceeded"
    how = f"killed by {_SIGNALS[code]}" if code in _SIGNALS else f"exit code {code}"
    if pod.end_reason == _UNRESPONSIVE:
        how = f"it stood still as a whole: no answer to its kubelet's liveness probe, {how}"
    if told is None and pod.end_message.strip():
        # It left no words: the kubelet gives the last lines of its log.
        return f"{how}. Its last lines: {tail(pod.end_message)}"
    return how


def tells(pod: Pod) -> bool:
    """Whether the pod itself says how it ended."""
    return pod.exit_code is not None or bool(pod.reason)


def unexplained(pods: Iterable[Pod]) -> list[Pod]:
    """Those that were killed, and do not say why: events on them may."""
    return [
        pod
        for pod in newest_of_each(pods)
        if pod.exit_code in _SIGNALS
        and pod.end_reason == "Error"
        and not (pod.reason or pod.disruption or pod.deleting or pod.gone)
    ]


def explained(pods: Iterable[Pod], events: Iterable[Raw]) -> list[Pod]:
    """`pods`, with what `events` tell of the end of those that do not say it themselves."""
    told: dict[str, set[str]] = {"Killing": set(), "Unhealthy": set()}
    for event in events:
        reason, words = event.get("reason"), str(event.get("message") or "")
        if reason == "Killing" or (reason == "Unhealthy" and words.startswith("Liveness probe")):
            told[reason].add((event.get("involvedObject") or {}).get("uid", ""))
    # Of a container that is not started anew the kubelet does not say why it stops it; but nobody
    # else had it do so: the pod was neither deleted nor evicted.
    mute = told["Killing"] & told["Unhealthy"]
    return [replace(pod, end_reason=_UNRESPONSIVE) if pod.uid in mute else pod for pod in pods]


def _verdict(pod: Pod) -> Verdict:
    """How this pod ended, by itself."""
    fated = pod.reason in _INTERRUPTING or pod.disruption is not None
    if pod.exit_code is not None:
        outcome, reason = _by_exit_code(pod, pod.exit_code)
        words = _words(pod, pod.exit_code, read_termination(pod.end_message))
        return Verdict(pod, outcome, reason, words, own=fated)
    if pod.reason:
        interrupting = fated or pod.deleting or pod.gone
        outcome = Outcome.INTERRUPTED if interrupting else Outcome.FAILED
        return Verdict(pod, outcome, pod.reason, pod.message or pod.reason, own=fated)
    if pod.unanswered:
        return Verdict(pod, Outcome.INTERRUPTED, "NodeLost", _lost_words(pod), own=True)
    reason = pod.disruption or "PodDeleted"
    return Verdict(pod, Outcome.INTERRUPTED, reason, "its pod was deleted", own=fated)


def _lost_words(pod: Pod) -> str:
    return f'node "{pod.node}" did not answer since {pod.unanswered}'


def ending(child: Child | None, pods: Iterable[Pod], *, workers: int = 1) -> Ending:
    """How the attempt ended, of a Job that has finished or is gone, and all its pods."""
    latest = newest_of_each(pods)
    node = nodes_of(latest)
    telling = [pod for pod in latest if tells(pod)]
    if child is not None and child.finished == "Complete":
        lead = telling[0] if telling else None
        told = _told(latest)
        return Ending(
            Outcome.SUCCEEDED,
            "Trained",
            clip(_verdict(lead).words, 2000) if lead else "",
            exit_code=lead.exit_code if lead else None,
            node=node,
            time=_last_end(latest),
            told=told,
            start=_start(latest),
        )
    lost = next((pod for pod in latest if pod.unanswered), None)
    if not telling and child is None and lost is not None:
        words = clip(_lost_words(lost), 2000)
        return Ending(Outcome.INTERRUPTED, "NodeLost", words, node=node, start=_start(latest))
    if not telling and child is None:
        disrupted = next((pod.disruption for pod in latest if pod.disruption), None)
        words = "its Job was deleted"
        return Ending(Outcome.INTERRUPTED, disrupted or "JobDeleted", words, node=node)
    # A pod that never ran and that nobody deleted tells nothing.
    ends = [_verdict(pod) for pod in latest if tells(pod) or pod.deleting or pod.gone]
    cause = first_cause(ends) or first_cause(map(_verdict, latest))
    if cause is None:
        return Ending(Outcome.INTERRUPTED, "PodDeleted", "its pod was deleted")
    outcome, reason = cause.outcome, cause.reason
    if outcome is Outcome.SUCCEEDED and child is not None:
        # The trainer ended well, yet the Job failed: the pod was taken away around its end.
        outcome, reason = Outcome.INTERRUPTED, "JobFailed"
    return Ending(
        outcome,
        clip(reason, 128),
        clip(_of_worker(cause, workers), 2000),
        exit_code=cause.pod.exit_code,
        node=node,
        time=_last_end(latest),
        told=_told(latest),
        start=_start(latest),
    )


def _told(pods: list[Pod]) -> TerminationMessage | None:
    """What rank 0 has left: it alone knows of the run."""
    lead = next((pod for pod in pods if pod.index == 0), None)
    return read_termination(lead.end_message) if lead else None


def _start(pods: list[Pod]) -> str | None:
    """When the last of them had begun."""
    return max((pod.started_at for pod in pods if pod.started_at), default=None)


def _last_end(pods: list[Pod]) -> str | None:
    return max((pod.ended_at for pod in pods if pod.ended_at), default=None)


def _of_worker(cause: Verdict, workers: int) -> str:
    """The words, with the worker's name before them where there are several."""
    if workers == 1 or cause.words.startswith("rank "):
        return cause.words
    where = f" on {cause.pod.node}" if cause.pod.node else ""
    return f"worker {cause.pod.index}{where}: {cause.words}"
