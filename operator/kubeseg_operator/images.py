"""The image that can't be pulled, in words that name the remedy. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kubeseg_operator.clock import add, parse
from kubeseg_operator.obstacle import EDITED, Obstacle, latest
from kubeseg_operator.outcome import clip
from kubeseg_operator.views import Pod, Raw
from kubeseg_types.spec import TrainingJobSpec

_IMAGE_REASONS = frozenset(
    "ErrImagePull ImagePullBackOff InvalidImageName ErrImageNeverPull ImageInspectError "
    "RegistryUnavailable SignatureValidationFailed".split()
)
_NO_SECRET = "FailedToRetrieveImagePullSecret"  # noqa: S105
_PULLS = frozenset({_NO_SECRET, "Pulling", "Failed", "BackOff"})
#: Seconds by which the newest event of a pull may be younger than a missing secret's: a kubelet
#: that repeats itself tells it every five minutes only.
_SECRET_HOLDS = 600.0
#: What a runtime says around the words that matter.
_AROUND = re.compile(
    r'rpc error: code = \w+ desc = |failed to (pull and unpack image|resolve reference) "[^"]*": '
)


def waits(pod: Pod) -> bool:
    """True where the pod waits for an image that could not be pulled."""
    return pod.waiting in _IMAGE_REASONS


def of_pull(pod: Pod, spec: TrainingJobSpec, image: str, events: Iterable[Raw] = ()) -> Obstacle:
    """Why it can't, in the runtime's words, and what to do."""
    cause, remedy = _cause(pod, _correct(spec, image))
    secrets = _missing_secrets(list(events))
    if secrets:
        cause += f"; pull secret {secrets} can't be read"
        remedy = (
            "Create it in the job's namespace (kubectl create secret docker-registry), or correct "
            "spec.imagePullSecrets"
        )
    words = f'image "{spec.image or image}" can\'t be pulled: {cause}. {remedy}.{EDITED}'
    return Obstacle("ImagePull", words)


def _correct(spec: TrainingJobSpec, image: str) -> str:
    if spec.image is None:
        return "Whoever runs the operator must correct its default, or name another in spec.image"
    return f"Correct spec.image (the operator's default is {image})"


def _cause(pod: Pod, correct: str) -> tuple[str, str]:
    if pod.waiting == "InvalidImageName":
        return "this is no image's name", correct
    if pod.waiting == "ErrImageNeverPull":
        return (
            "it is not on the node, and spec.imagePullPolicy is Never",
            "Load it there, or set spec.imagePullPolicy to IfNotPresent",
        )
    # Back-off messages carry the cause behind the word; both forms must read alike, or the
    # condition would change at every turn of the kubelet's back-off.
    words = _AROUND.sub("", pod.waiting_message.rpartition("ErrImagePull: ")[2])
    cause, lower = clip(words.strip().rstrip("."), 300), words.lower()
    if "not found" in lower or "notfound" in lower:
        return cause, f"{correct}, or push it there"
    if re.search(r"unauthorized|denied|forbidden|authentication", lower):
        secret = "Name in spec.imagePullSecrets a Secret with credentials for its registry"  # noqa: S105
        return cause, f"{secret}, or {correct[0].lower()}{correct[1:]}"
    if not cause or lower.startswith("back-off pulling"):
        cause = "the last try failed"
    return cause, f"{correct}, or see to it that the nodes reach its registry"


def _missing_secrets(events: list[Raw]) -> str:
    """Names of pull secrets that the kubelet could not read, where it says so still."""
    told, last = latest(events, frozenset({_NO_SECRET})), latest(events, _PULLS)
    match = re.search(r"\(([^()]{1,1000})\)", str(told.get("message", ""))) if told else None
    if told is None or last is None or match is None:
        return ""
    then, now = (parse(event.get("lastTimestamp")) for event in (told, last))
    past = then is not None and now is not None and add(then, _SECRET_HOLDS) < now
    return "" if past else clip(match[1], 200)
