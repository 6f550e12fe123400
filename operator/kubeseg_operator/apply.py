"""Carrying out a decision. Every write has a precondition or is one that can be made only once."""

from __future__ import annotations

from urllib.parse import quote

from kubeseg_operator import refusal
from kubeseg_operator.client import ApiError, Client
from kubeseg_operator.decide import (
    Action,
    CreateChild,
    DeleteChild,
    DeleteJob,
    DeletePod,
    EnsureService,
    MendChild,
    MendPod,
    PatchConfig,
    SetFinalizers,
)
from kubeseg_operator.obstacle import Obstacle
from kubeseg_operator.services import ensure_service
from kubeseg_operator.store import Store
from kubeseg_operator.views import JobView, Key, Raw, child_view, job_view, pod_view
from kubeseg_types.names import API_VERSION, GROUP, KIND, PLURAL, VERSION
from kubeseg_types.status import TrainingJobStatus


def job_path(key: Key, subresource: str = "") -> str:
    """Path of a TrainingJob."""
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{key.namespace}/{PLURAL}/{key.name}"
    return f"{path}/{subresource}" if subresource else path


def children_path(namespace: str, name: str = "") -> str:
    """Path of a Job, or of all Jobs of a namespace."""
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    # Some names come from a status, which somebody else may have written.
    return f"{path}/{quote(name, safe='')}" if name else path


def pods_path(namespace: str, name: str = "") -> str:
    """Path of a Pod, or of all Pods of a namespace."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return f"{path}/{name}" if name else path


def status_body(job: JobView, status: TrainingJobStatus) -> Raw:
    """What replaces the status of this very version of `job`."""
    meta = {
        "name": job.key.name,
        "namespace": job.key.namespace,
        "uid": job.uid,
        "resourceVersion": job.version,
    }
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "status": status.to_dict()}


class Applier:
    """Writes to the API server, and lets the store know what came of it."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client, self._store = client, store

    async def act(self, job: JobView, action: Action) -> Obstacle | None:
        """Carry out one action; an obstacle where the attempt's Job can't be made."""
        match action:
            case CreateChild(manifest):
                return await self._create(job, manifest)
            case EnsureService(manifest):
                return await ensure_service(self._client, job, manifest)
            case DeleteChild(name, uid):
                options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
                leaving = await self._delete(children_path(job.key.namespace, name), options)
                if leaving is None:
                    self._store.drop_child(job.key, name, uid)
                elif "deletionTimestamp" in leaving.get("metadata", {}):
                    # Known before the watch tells it: it isn't deleted twice.
                    self._store.put_child(job.key, child_view(leaving))
            case DeletePod(name, uid):
                at_once: Raw = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
                leaving = await self._delete(pods_path(job.key.namespace, name), at_once)
                if leaving is not None and "deletionTimestamp" in leaving.get("metadata", {}):
                    self._store.put_pod(job.key, pod_view(leaving))
            case MendChild(name, uid, patch):
                await self._mend(job, name, uid, patch)
            case PatchConfig(name, uid) | MendPod(name, uid):
                await self._patch_pod(job, name, uid, action.meta)
            case DeleteJob(uid, version):
                only = {"uid": uid, "resourceVersion": version}
                options = {"propagationPolicy": "Background", "preconditions": only}
                await self._delete(job_path(job.key), options)
            case SetFinalizers():
                await self._set_finalizers(job, action)
        return None

    async def refresh(self, job: JobView) -> None:
        """The store was behind: read the job as it is now."""
        try:
            self._store.put_job(job_view(await self._client.get(job_path(job.key))))
        except ApiError as error:
            if error.code != 404:
                raise
            self._store.drop_job(job.key, job.uid)

    async def write_status(self, job: JobView, status: TrainingJobStatus) -> JobView:
        """Replace the status of this very version. Raises ApiError, 409 where it is an old one."""
        body = status_body(job, status)
        written = job_view(await self._client.replace(job_path(job.key, "status"), body))
        self._store.put_job(written)
        return written

    async def _set_finalizers(self, job: JobView, wanted: SetFinalizers) -> None:
        meta = {
            "uid": wanted.uid,
            # Others' finalizers are in the list as this version has them.
            "resourceVersion": wanted.version,
            "finalizers": list(wanted.finalizers),
        }
        try:
            patched = job_view(await self._client.merge(job_path(job.key), {"metadata": meta}))
        except ApiError as error:
            if error.code not in {404, 409, 422}:
                raise
            # Another version by now, or gone; 422: being deleted, which takes no more finalizers.
            await self.refresh(job)
            return
        if patched.deleting and not patched.finalizers:
            self._store.drop_job(job.key, job.uid, for_good=True)
        else:
            self._store.put_job(patched)

    async def _delete(self, path: str, options: Raw) -> Raw | None:
        """The object as it leaves; None where it was not there."""
        try:
            return await self._client.delete(path, options)
        except ApiError as error:
            # Gone, or another object by now: either way there is nothing left to delete.
            if error.code not in {404, 409}:
                raise
            return None if error.code == 404 else {}

    async def _patch_pod(self, job: JobView, name: str, uid: str, meta: Raw) -> None:
        body = {"metadata": {"uid": uid, **meta}}
        try:
            patched = await self._client.merge(pods_path(job.key.namespace, name), body)
        except ApiError as error:
            if error.code not in {404, 409} and not _is_another(error):
                raise
            return
        self._store.put_pod(job.key, pod_view(patched))

    async def _mend(self, job: JobView, name: str, uid: str, patch: Raw) -> None:
        body = patch | {"metadata": patch["metadata"] | {"uid": uid}}
        try:
            mended = await self._client.merge(children_path(job.key.namespace, name), body)
        except ApiError as error:
            gone = error.code == 404 or _is_another(error)
            if error.code != 409 and not gone:
                raise
            if gone:
                self._store.drop_child(job.key, name, uid)
            return
        self._store.put_child(job.key, child_view(mended))

    async def _create(self, job: JobView, manifest: Raw) -> Obstacle | None:
        name = manifest["metadata"]["name"]
        try:
            made = await self._client.create(children_path(job.key.namespace), manifest)
        except ApiError as error:
            if error.code == 409:
                return await self._adopt(job, name)
            if error.code in {400, 403, 404, 422} or refusal.UNASKED in error.message:
                return refusal.of_job(error)
            raise
        self._store.put_child(job.key, child_view(made))
        return None

    async def _adopt(self, job: JobView, name: str) -> Obstacle | None:
        """A Job of this name is there: ours from an earlier try, or somebody else's."""
        try:
            found = await self._client.get(children_path(job.key.namespace, name))
        except ApiError as error:
            if error.code == 404:
                return Obstacle("NameTaken", f"Job {name} was there a moment ago: trying again.")
            raise
        child = child_view(found)
        if child.owner == job.uid:
            self._store.put_child(job.key, child)
            return None
        if child.owner is not None:
            return Obstacle(
                "PredecessorLeaving",
                f"Job {name} belongs to a deleted TrainingJob of the same name: waiting until the "
                "garbage collector has removed it.",
            )
        return Obstacle(
            "NameTaken",
            f"Job {name} is there already and isn't this TrainingJob's: delete or rename that Job, "
            "or give the TrainingJob another name.",
        )


def _is_another(error: ApiError) -> bool:
    """A patch that names another UID isn't a conflict to the API server, but invalid."""
    return error.code == 422 and "metadata.uid" in error.message
