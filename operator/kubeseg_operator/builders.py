"""From a TrainingJob to manifests: pure functions, checked against golden files."""

from __future__ import annotations

import json
from typing import Any

from kubeseg_operator.rendezvous import RESERVED, environment, service_name
from kubeseg_operator.views import JobView, Raw
from kubeseg_types.names import (
    ANNOTATION_CONFIG,
    API_VERSION,
    CONFIG_FILE,
    CONFIG_MOUNT,
    GROUP,
    KIND,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    LABEL_QUEUE,
    MANAGED_BY,
    SCRATCH_MOUNT,
    TERMINATION_LOG,
    TRAINER_CONTAINER,
    TRAINER_PORT,
    TRAINER_PORT_NAME,
    WORKSPACE_MOUNT,
)
from kubeseg_types.spec import EnvVar, TrainingJobSpec
from kubeseg_types.status import Batch
from kubeseg_types.trainer import trainer_config
from kubeseg_types.training import MAX_ACCUMULATE

TRAINER_UID = 10001
GRACE_SECONDS = 60
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
        parts = min(
            max(spec.training.accumulate, Batch.model_validate(batch).accumulate), MAX_ACCUMULATE
        )
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


def _passed_on(wanted: dict[str, str] | None) -> dict[str, str]:
    """A user's labels or annotations; the domain kubeseg.dev is ours alone."""
    return {
        name: value for name, value in (wanted or {}).items() if not name.startswith(f"{GROUP}/")
    }


def _plain(models: list[Any] | None) -> list[Raw]:
    return [model.to_dict() for model in models or []]


def _env(wanted: list[EnvVar] | None, place: list[Raw]) -> list[Raw]:
    own: list[Raw] = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        *place,
    ]
    taken = RESERVED | {entry["name"] for entry in own}
    return own + [entry for entry in _plain(wanted) if entry["name"] not in taken]


def _resources(spec: TrainingJobSpec) -> Raw:
    wish = spec.resources
    limits = {"memory": wish.memory}
    if wish.gpus:
        limits[wish.gpu_resource] = str(wish.gpus)
    resources: Raw = {"requests": {"cpu": wish.cpu, "memory": wish.memory}, "limits": limits}
    if spec.resource_claims:
        resources["claims"] = [{"name": claim.name} for claim in spec.resource_claims]
    return resources


def _container(spec: TrainingJobSpec, image: str, place: list[Raw]) -> Raw:
    container: Raw = {
        "name": TRAINER_CONTAINER,
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
        "resources": _resources(spec),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePath": TERMINATION_LOG,
        # Where the trainer could leave no words, the last lines of its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "workspace", "mountPath": WORKSPACE_MOUNT},
            {"name": "config", "mountPath": CONFIG_MOUNT, "readOnly": True},
            {"name": "scratch", "mountPath": SCRATCH_MOUNT},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount of the pod's own
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - likewise
        ],
    }
    if spec.image_pull_policy:
        container["imagePullPolicy"] = spec.image_pull_policy
    return container


def _volumes(spec: TrainingJobSpec) -> list[Raw]:
    annotation = f"metadata.annotations['{ANNOTATION_CONFIG}']"
    item = {"path": CONFIG_FILE.rpartition("/")[2], "fieldRef": {"fieldPath": annotation}}
    memory = {"medium": "Memory", "sizeLimit": spec.resources.shared_memory}
    return [
        {"name": "workspace", "persistentVolumeClaim": {"claimName": spec.workspace.claim_name}},
        {"name": "config", "downwardAPI": {"items": [item]}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": memory},
    ]


def _pod_spec(spec: TrainingJobSpec, image: str, job: str, child: str) -> Raw:
    pod: Raw = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": TRAINER_UID,
            "runAsGroup": TRAINER_UID,
            "fsGroup": TRAINER_UID,
            # A workspace with a million files must not be walked at every start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(spec, image, environment(spec, job, child))],
        "volumes": _volumes(spec),
    }
    optional: Raw = {
        "nodeSelector": spec.node_selector,
        "tolerations": _plain(spec.tolerations),
        "affinity": spec.affinity,
        "schedulerName": spec.scheduler_name,
        "priorityClassName": spec.priority_class_name,
        "runtimeClassName": spec.runtime_class_name,
        "imagePullSecrets": _plain(spec.image_pull_secrets),
        "resourceClaims": _plain(spec.resource_claims),
        # With it the pods of an Indexed Job have names: <child>-<index>.<service>.
        "subdomain": service_name(job) if spec.workers > 1 else None,
    }
    return pod | {name: value for name, value in optional.items() if value}


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
                    "labels": _passed_on(spec.pod_labels) | labels,
                    "annotations": _passed_on(spec.pod_annotations)
                    | {ANNOTATION_CONFIG: config_text(job, spec, attempt)},
                },
                "spec": _pod_spec(spec, image, job.key.name, name),
            },
        },
    }
    if spec.queue_name:
        # From here on `suspend` belongs to Kueue, which says with it when the attempt may run.
        manifest["metadata"]["labels"][LABEL_QUEUE] = spec.queue_name
        manifest["spec"]["suspend"] = True
    return manifest
