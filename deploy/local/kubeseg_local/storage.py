"""Volumes of the class `kubeseg-local`: folders below the cluster's own, for any access mode."""

from __future__ import annotations

from pathlib import Path

from kubeseg_local.kube import Manifest

CLASS = "kubeseg-local"
PROVISIONER = "kubeseg.dev/local"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
# Pods of any uid may write, as they may on a volume whose group is theirs.
FOLDER_MODE = 0o777


def storage_class() -> Manifest:
    """The default storage class."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
        "allowVolumeExpansion": False,
    }


def volume_name(claim: Manifest) -> str:
    """Name of the volume of `claim`: its own, for as long as this very claim lives."""
    return f"pvc-{claim['metadata']['uid']}"


def volume_folder(volumes: Path, claim: Manifest) -> Path:
    """Where the files of `claim` lie."""
    metadata = claim["metadata"]
    return volumes / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid'][:8]}"


def missing(claims: list[Manifest], volumes: list[Manifest]) -> list[Manifest]:
    """Claims of our class that wait for a volume which isn't there."""
    there = {each["metadata"]["name"] for each in volumes}
    return [
        claim
        for claim in claims
        if claim["spec"].get("storageClassName") == CLASS
        and claim.get("status", {}).get("phase") == "Pending"
        and not claim["spec"].get("volumeName")
        and not claim["metadata"].get("deletionTimestamp")
        and volume_name(claim) not in there
    ]


def released(volumes: list[Manifest]) -> list[Manifest]:
    """Volumes of ours whose claim is gone, to be deleted with their files."""
    return [
        volume
        for volume in volumes
        if volume["metadata"].get("annotations", {}).get(PROVISIONED_BY) == PROVISIONER
        and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        and volume.get("status", {}).get("phase") == "Released"
        and not volume["metadata"].get("deletionTimestamp")
    ]


def volume_for(claim: Manifest, folder: Path) -> Manifest:
    """The volume for `claim`, which binds to nothing else."""
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
        },
    }
