"""What all pods of ours have in common, whatever they are for: pure parts of manifests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kubeseg_operator.views import Raw
from kubeseg_types.names import (
    ANNOTATION_CONFIG,
    CONFIG_FILE,
    CONFIG_MOUNT,
    GROUP,
    TERMINATION_LOG,
    TRAINER_CONTAINER,
    WORKSPACE_MOUNT,
)
from kubeseg_types.spec import TrainingJobSpec

TRAINER_UID = 10001
TMP_VOLUME: Raw = {"name": "tmp", "emptyDir": {}}
#: The trainer's configuration: an annotation of the pod, as a file that changes with it.
CONFIG_VOLUME: Raw = {
    "name": "config",
    "downwardAPI": {
        "items": [
            {
                "path": CONFIG_FILE.rpartition("/")[2],
                "fieldRef": {"fieldPath": f"metadata.annotations['{ANNOTATION_CONFIG}']"},
            }
        ]
    },
}
WORKSPACE_AT: Raw = {"name": "workspace", "mountPath": WORKSPACE_MOUNT}
CONFIG_AT: Raw = {"name": "config", "mountPath": CONFIG_MOUNT, "readOnly": True}
TMP_AT: Raw = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - a mount of the pod's own


def template_hash(template: Raw) -> str:
    """16 hex digits that change with the pods of a template, whatever configuration they carry."""
    meta = template["metadata"]
    annotations = {
        name: text
        for name, text in meta.get("annotations", {}).items()
        if name != ANNOTATION_CONFIG
    }
    asked = {"labels": meta["labels"], "annotations": annotations, "spec": template["spec"]}
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def passed_on(wanted: dict[str, str] | None) -> dict[str, str]:
    """A user's labels or annotations; the domain kubeseg.dev is ours alone."""
    return {
        name: value for name, value in (wanted or {}).items() if not name.startswith(f"{GROUP}/")
    }


def plain(models: list[Any] | None) -> list[Raw]:
    """Models of the contract as manifests have them."""
    return [model.to_dict() for model in models or []]


def chosen(optional: Raw) -> Raw:
    """Those of `optional` that have a value."""
    return {name: value for name, value in optional.items() if value}


def workspace_volume(spec: TrainingJobSpec) -> Raw:
    """The claim that the data sets and runs lie in."""
    return {"name": "workspace", "persistentVolumeClaim": {"claimName": spec.workspace.claim_name}}


def pod_spec(
    spec: TrainingJobSpec, container: Raw, volumes: list[Raw], *, grace: int, **optional: Any
) -> Raw:
    """A pod of one container that passes the Pod Security level `restricted`.

    `grace` is in seconds; `optional` parts that are empty are left out.
    """
    restricted: Raw = {
        "name": TRAINER_CONTAINER,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePath": TERMINATION_LOG,
    }
    pod: Raw = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": TRAINER_UID,
            "runAsGroup": TRAINER_UID,
            "fsGroup": TRAINER_UID,
            # A workspace with a million files must not be walked at every start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [restricted | container],
        "volumes": volumes,
    }
    placed: Raw = {
        "nodeSelector": spec.node_selector,
        "tolerations": plain(spec.tolerations),
        "priorityClassName": spec.priority_class_name,
        "imagePullSecrets": plain(spec.image_pull_secrets),
    }
    return pod | chosen(placed | optional)
