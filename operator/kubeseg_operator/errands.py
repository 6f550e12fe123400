"""Jobs beside a TrainingJob's attempts: the check before them, the clean-up after. Pure builders.

Neither takes a GPU or waits in a queue. So nothing of the spec that chooses nodes for GPUs holds
for them: no affinity, runtime class or scheduler, and of nodeSelector only what an image can run
on. Tolerations stay: they forbid no node, and a cluster may have tainted ones only.
"""

from __future__ import annotations

import re
from typing import Any

from kubeseg_operator.builders import config_text, owner_reference
from kubeseg_operator.pods import (
    CONFIG_AT,
    CONFIG_VOLUME,
    TMP_AT,
    TMP_VOLUME,
    WORKSPACE_AT,
    passed_on,
    plain,
    pod_spec,
    template_hash,
    workspace_volume,
)
from kubeseg_operator.views import JobView, Raw
from kubeseg_types.names import (
    ANNOTATION_CONFIG,
    ANNOTATION_TEMPLATE,
    CONFIG_FILE,
    LABEL_CLEANUP_OF,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    WORKSPACE_MOUNT,
)
from kubeseg_types.spec import Resources, TrainingJobSpec

CHECK_APP, CLEANUP_APP = "kubeseg-check", "kubeseg-cleanup"
#: What they ask for; the limits are several times that.
CHECK_ASKS = Resources(cpu="500m", memory="1Gi")
CLEANUP_ASKS = Resources(cpu="50m", memory="64Mi")
_CHECK_LIMIT, _CLEANUP_LIMIT = "4Gi", "512Mi"
#: Seconds that a finished check stays, so that its log can be read; nothing depends on it.
CHECK_KEPT = 3600
#: Seconds that a finished clean-up stays where nobody took it away (an audit finds it before that),
#: and that one may take at most.
CLEANUP_KEPT, CLEANUP_DEADLINE = 900, 1800
_ERRAND = re.compile(r"-(check|cleanup)([0-9]{1,6})$")
_IMAGE_RUNS_ON = frozenset({"kubernetes.io/os", "kubernetes.io/arch"})


def check_name(job: str, number: int) -> str:
    """Name of a check Job: no attempt of any TrainingJob ends so."""
    return f"{job}-check{number}"


def cleanup_name(job: str, number: int) -> str:
    """Name of a clean-up Job: no attempt of any TrainingJob ends so."""
    return f"{job}-cleanup{number}"


def errand_number(name: str) -> tuple[str, int] | None:
    """Whether a Job of this name is a "check" or a "cleanup", and which; None: it is neither."""
    match = _ERRAND.search(name)
    return (match[1], int(match[2])) if match else None


def errand_spec(spec: TrainingJobSpec, asks: Resources) -> TrainingJobSpec:
    """`spec` as far as it holds for a pod that asks for `asks` alone."""
    nodes = {
        key: value for key, value in (spec.node_selector or {}).items() if key in _IMAGE_RUNS_ON
    }
    return spec.model_copy(
        update={
            "resources": asks,
            "node_selector": nodes or None,
            "affinity": None,
            "scheduler_name": None,
            "runtime_class_name": None,
            "resource_claims": None,
            "queue_name": None,
            "workers": 1,
        }
    )


def _job(
    job: JobView, *, name: str, labels: dict[str, str], spec: Raw, template: Raw, **metadata: Any
) -> Raw:
    own = {LABEL_JOB: job.key.name, LABEL_MANAGED_BY: MANAGED_BY} | labels
    template["metadata"]["labels"] = template["metadata"].get("labels", {}) | own
    annotations = {ANNOTATION_TEMPLATE: template_hash(template)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": job.key.namespace,
            "labels": own,
            "annotations": annotations,
        }
        | metadata,
        "spec": {"backoffLimit": 0, "podReplacementPolicy": "Failed"}
        | spec
        | {"template": template},
    }


def _pod(spec: TrainingJobSpec, container: Raw, volumes: list[Raw], grace: int) -> Raw:
    container = {"terminationMessagePolicy": "File"} | container
    return pod_spec(spec, container, [workspace_volume(spec), TMP_VOLUME, *volumes], grace=grace)


_MOUNTS = [WORKSPACE_AT, TMP_AT]


def _resources(asks: Resources, limit: str) -> Raw:
    return {"requests": {"cpu": asks.cpu, "memory": asks.memory}, "limits": {"memory": limit}}


def check_job(job: JobView, spec: TrainingJobSpec, *, number: int, image: str) -> Raw:
    """The Job that runs the trainer's own check, with the first attempt's configuration."""
    spec = errand_spec(spec, CHECK_ASKS)
    container: Raw = {
        "image": spec.image or image,
        "args": ["check", "--network", "--config", CONFIG_FILE, "--workspace", WORKSPACE_MOUNT],
        # Whatever the trainer will miss is missed now: a Secret, a ConfigMap.
        "env": plain(spec.env),
        "resources": _resources(CHECK_ASKS, _CHECK_LIMIT),
        "volumeMounts": [*_MOUNTS, CONFIG_AT],
    }
    if spec.image_pull_policy:
        container["imagePullPolicy"] = spec.image_pull_policy
    annotations = passed_on(spec.pod_annotations) | {ANNOTATION_CONFIG: config_text(job, spec, 1)}
    return _job(
        job,
        name=check_name(job.key.name, number),
        labels={"app.kubernetes.io/name": CHECK_APP},
        ownerReferences=[owner_reference(job)],
        spec={"ttlSecondsAfterFinished": CHECK_KEPT},
        template={
            "metadata": {"labels": passed_on(spec.pod_labels), "annotations": annotations},
            "spec": _pod(spec, container, [CONFIG_VOLUME], grace=30),
        },
    )


def cleanup_job(job: JobView, spec: TrainingJobSpec, *, number: int, image: str) -> Raw:
    """The Job that removes the run's folder, by the operator's own image: a user's may be old.

    It has no owner: the garbage collector would delete it while its owner is being deleted in the
    foreground. Its deadline and its time to live see to it that it never stays behind.
    """
    spec = errand_spec(spec, CLEANUP_ASKS)
    container: Raw = {
        "image": image,
        "args": [
            *("remove", "--workspace", WORKSPACE_MOUNT),
            *("--job", job.key.name, "--uid", job.uid),
        ],
        "resources": _resources(CLEANUP_ASKS, _CLEANUP_LIMIT),
        "volumeMounts": _MOUNTS,
    }
    annotations = passed_on(spec.pod_annotations)
    return _job(
        job,
        name=cleanup_name(job.key.name, number),
        labels={"app.kubernetes.io/name": CLEANUP_APP, LABEL_CLEANUP_OF: job.uid},
        spec={
            "activeDeadlineSeconds": CLEANUP_DEADLINE,
            "ttlSecondsAfterFinished": CLEANUP_KEPT,
        },
        template={
            "metadata": {"labels": passed_on(spec.pod_labels)}
            | ({"annotations": annotations} if annotations else {}),
            "spec": _pod(spec, container, [], grace=5),
        },
    )
