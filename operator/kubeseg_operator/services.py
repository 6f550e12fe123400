"""Keeping the Service of several workers: made once, put right where it was changed."""

from __future__ import annotations

from kubeseg_operator.client import ApiError, Client
from kubeseg_operator.obstacle import MAX_QUOTED, Obstacle
from kubeseg_operator.outcome import clip
from kubeseg_operator.rendezvous import as_wished
from kubeseg_operator.views import JobView, Raw, owner_uid


def services_path(namespace: str, name: str = "") -> str:
    """Path of a Service, or of all Services of a namespace."""
    path = f"/api/v1/namespaces/{namespace}/services"
    return f"{path}/{name}" if name else path


async def ensure_service(client: Client, job: JobView, manifest: Raw) -> Obstacle | None:
    """An obstacle where it can't be had. Raises ApiError where trying again may help."""
    name = manifest["metadata"]["name"]
    for last in (False, True):
        try:
            found = await client.get(services_path(job.key.namespace, name))
        except ApiError as error:
            if error.code == 403:
                return _refused(error)
            if error.code != 404:
                raise
        else:
            return await _keep(client, job, found, manifest)
        try:
            await client.create(services_path(job.key.namespace), manifest)
        except ApiError as error:
            if error.code == 409 and not last:
                # Made since it was looked for, perhaps by an earlier try of our own.
                continue
            if error.code in {400, 403, 404, 422}:
                return _refused(error)
            raise
        return None
    return None


async def _keep(client: Client, job: JobView, found: Raw, manifest: Raw) -> Obstacle | None:
    name, owner = manifest["metadata"]["name"], owner_uid(found)
    if owner is None:
        return Obstacle(
            "NameTaken",
            f"Service {name} is there already and isn't this TrainingJob's: delete or rename that "
            "Service, or give the TrainingJob another name. Its workers find each other by it.",
        )
    if owner != job.uid or "deletionTimestamp" in found["metadata"]:
        return Obstacle(
            "PredecessorLeaving",
            f"Service {name} is being removed with a deleted TrainingJob of the same name: waiting "
            "until the garbage collector has done so.",
        )
    if as_wished(found, manifest):
        return None
    # Of this very version: whoever changes it meanwhile is asked again at the next visit.
    meta = {
        "uid": found["metadata"]["uid"],
        "resourceVersion": found["metadata"]["resourceVersion"],
    }
    body = manifest | {"metadata": manifest["metadata"] | meta}
    try:
        await client.replace(services_path(job.key.namespace, name), body)
    except ApiError as error:
        if error.code in {400, 403, 422}:
            return _refused(error)
        if error.code not in {404, 409}:
            raise
    return None


def _refused(error: ApiError) -> Obstacle:
    said = clip(error.message.rstrip("."), MAX_QUOTED)
    if "exceeded quota" in said:
        remedy = "Remove a Service of the namespace, or have the quota raised"
    elif "cannot" in said and "resource" in said:
        remedy = "Whoever runs the operator must give it this right"
    else:
        remedy = "Ask who runs the cluster"
    return Obstacle(
        "ServiceRefused",
        f"the API server refuses the Service by which the workers find each other: {said}. "
        f"{remedy}; the job goes on by itself.",
    )
