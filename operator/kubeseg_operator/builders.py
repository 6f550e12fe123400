"""From a TrainingJob to manifests: pure functions, checked against golden files."""

from __future__ import annotations

import json
import math

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
from kubeseg_operator.rendezvous import RENDEZVOUS_SECONDS, RESERVED, environment, service_name
from kubeseg_operator.views import JobView, Raw
from kubeseg_types.base import duration_seconds
from kubeseg_types.names import (
    ANNOTATION_CONFIG,
    ANNOTATION_TEMPLATE,
    API_VERSION,
    CONFIG_FILE,
    ENV_RENDEZVOUS_TIMEOUT,
    KIND,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    LABEL_QUEUE,
    MANAGED_BY,
    SCRATCH_MOUNT,
    TRAINER_PORT,
    TRAINER_PORT_NAME,
    WORKSPACE_MOUNT,
)
from kubeseg_types.spec import EnvVar, TrainingJobSpec
from kubeseg_types.status import Batch
from kubeseg_types.trainer import trainer_config
from kubeseg_types.training import MAX_ACCUMULATE

GRACE_SECONDS = 60
_PROBED_EVERY = 30
APP_NAME = "kubeseg-trainer"


def child_name(job: str, attempt: int) -> str:
    """Name of the child Job of an attempt."""
    return f"{job}-{attempt}"


def owner_reference(job: JobView) -> Raw:
    """Makes what carries it go with the TrainingJob; no finalizer holds up a deletion."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.key.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def labels_of(job: JobView, attempt: int) -> dict[str, str]:
    """Labels of an attempt's Job and of its pods."""
    return {
        LABEL_JOB: job.key.name,
        LABEL_ATTEMPT: str(attempt),
        "app.kubernetes.io/name": APP_NAME,
        LABEL_MANAGED_BY: MANAGED_BY,
    }


def config_text(job: JobView, spec: TrainingJobSpec, attempt: int) -> str:
    """The trainer's configuration, as the pod's annotation carries it.

    Since an attempt was killed for memory, with more parts of a batch than the spec has.
    """
    batch = job.status.get("batch")
    if batch:
        # A part has at least one image, whatever somebody wrote into the status.
        most = min(spec.training.batch_size, MAX_ACCUMULATE)
        parts = min(max(spec.training.accumulate, Batch.model_validate(batch).accumulate), most)
        training = spec.training.model_copy(update={"accumulate": parts})
        spec = spec.model_copy(update={"training": training})
    config = trainer_config(
        spec,
        namespace=job.key.namespace,
        job=job.key.name,
        uid=job.uid,
        attempt=attempt,
        generation=job.generation,
        annotations=job.annotations,
    )
    return json.dumps(config.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _env(wanted: list[EnvVar] | None, place: list[Raw]) -> list[Raw]:
    own: list[Raw] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        *place,
    ]
    taken = RESERVED | {entry["name"] for entry in own}
    return own + [entry for entry in plain(wanted) if entry["name"] not in taken]


def _resources(spec: TrainingJobSpec) -> Raw:
    wish = spec.resources
    limits = {"memory": wish.memory}
    if wish.gpus:
        limits[wish.gpu_resource] = str(wish.gpus)
    resources: Raw = {"requests": {"cpu": wish.cpu, "memory": wish.memory}, "limits": limits}
    if spec.resource_claims:
        resources["claims"] = [{"name": claim.name} for claim in spec.resource_claims]
    return resources


def _liveness(spec: TrainingJobSpec) -> Raw:
    """Has a process that is frozen as a whole ended: its own watchdog is frozen, too."""
    patience = duration_seconds(spec.training.stall_timeout)
    if spec.workers > 1:
        told = [each.value for each in spec.env or [] if each.name == ENV_RENDEZVOUS_TIMEOUT]
        # Before they have met they serve nothing.
        wished = [int(text) for text in told if text and text.isdecimal() and len(text) < 8]
        patience += max([RENDEZVOUS_SECONDS, *wished])
    return {
        "httpGet": {"path": "/healthz", "port": TRAINER_PORT_NAME},
        "periodSeconds": _PROBED_EVERY,
        "timeoutSeconds": 10,
        "failureThreshold": max(4, math.ceil(patience / _PROBED_EVERY)),
    }


def _container(spec: TrainingJobSpec, image: str, place: list[Raw]) -> Raw:
    container: Raw = {
        "image": spec.image or image,
        "args": [
            *("train", "--config", CONFIG_FILE),
            *("--workspace", WORKSPACE_MOUNT, "--scratch", SCRATCH_MOUNT),
        ],
        "env": _env(spec.env, place),
        "ports": [{"name": TRAINER_PORT_NAME, "containerPort": TRAINER_PORT}],
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": TRAINER_PORT_NAME},
            "periodSeconds": 5,
            "timeoutSeconds": 3,
        },
        "livenessProbe": _liveness(spec),
        "resources": _resources(spec),
        # Where the trainer could leave no words, the last lines of its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            WORKSPACE_AT,
            CONFIG_AT,
            {"name": "scratch", "mountPath": SCRATCH_MOUNT},
            TMP_AT,
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - a mount of the pod's own
        ],
    }
    if spec.image_pull_policy:
        container["imagePullPolicy"] = spec.image_pull_policy
    return container


def _volumes(spec: TrainingJobSpec) -> list[Raw]:
    memory = {"medium": "Memory", "sizeLimit": spec.resources.shared_memory}
    return [
        workspace_volume(spec),
        CONFIG_VOLUME,
        {"name": "scratch", "emptyDir": {}},
        TMP_VOLUME,
        {"name": "shm", "emptyDir": memory},
    ]


def _pod_spec(spec: TrainingJobSpec, image: str, job: str, child: str) -> Raw:
    return pod_spec(
        spec,
        _container(spec, image, environment(spec, job, child)),
        _volumes(spec),
        grace=GRACE_SECONDS,
        affinity=spec.affinity.to_dict() if spec.affinity else None,
        schedulerName=spec.scheduler_name,
        runtimeClassName=spec.runtime_class_name,
        resourceClaims=plain(spec.resource_claims),
        # With it the pods of an Indexed Job have names: <child>-<index>.<service>.
        subdomain=service_name(job) if spec.workers > 1 else None,
    )


def child_job(job: JobView, spec: TrainingJobSpec, *, attempt: int, image: str) -> Raw:
    """The Job of an attempt; `image` is used where the spec names none."""
    labels = labels_of(job, attempt)
    name = child_name(job.key.name, attempt)
    manifest: Raw = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": job.key.namespace,
            "labels": dict(labels),
            "ownerReferences": [owner_reference(job)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": spec.workers,
            "parallelism": spec.workers,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {
                    "labels": passed_on(spec.pod_labels) | labels,
                    "annotations": passed_on(spec.pod_annotations)
                    | {ANNOTATION_CONFIG: config_text(job, spec, attempt)},
                },
                "spec": _pod_spec(spec, image, job.key.name, name),
            },
        },
    }
    digest = template_hash(manifest["spec"]["template"])
    manifest["metadata"]["annotations"] = {ANNOTATION_TEMPLATE: digest}
    if spec.queue_name:
        # From here on `suspend` belongs to Kueue, which says with it when the attempt may run.
        manifest["metadata"]["labels"][LABEL_QUEUE] = spec.queue_name
        manifest["spec"]["suspend"] = True
    return manifest
