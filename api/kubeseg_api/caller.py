"""What a caller may do and see in the cluster: each request carries the caller's own token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kubeseg_api.errors import ForbiddenError, NotFoundError
from kubeseg_api.kube import Kube
from kubeseg_types import names
from kubeseg_types.status import Phase, TrainingJobStatus

Job = dict[str, Any]
PAGE = 500
FINISHED = {Phase.SUCCEEDED, Phase.FAILED}


def status_of(job: Job) -> TrainingJobStatus:
    """The status of a TrainingJob as the API server gave it; empty before the operator saw it."""
    return TrainingJobStatus.model_validate(job.get("status") or {})


def uid_of(job: Job) -> str:
    """The UID of a TrainingJob."""
    return str(job["metadata"]["uid"])


@dataclass(frozen=True)
class Caller:
    """Someone with a token, in the facade's namespace."""

    kube: Kube
    token: str
    namespace: str

    @property
    def _jobs(self) -> str:
        return f"/apis/{names.API_VERSION}/namespaces/{quote(self.namespace)}/{names.PLURAL}"

    async def require(self, verb: str, resource: str, name: str = "") -> None:
        """Raises ForbiddenError unless the caller may `verb` this resource of kubeseg.dev.

        `resource` may exist for access reviews only (`datasets`, `models`).
        """
        attributes = {
            "namespace": self.namespace,
            "verb": verb,
            "group": names.GROUP,
            "version": names.VERSION,
            "resource": resource,
        }
        if name:
            attributes["name"] = name
        review = await self.kube.request(
            self.token,
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
        if not review.get("status", {}).get("allowed"):
            what = f"{resource}.{names.GROUP}" + (f" {name!r}" if name else "")
            raise ForbiddenError(
                f"this token may not {verb} {what} in namespace {self.namespace!r}. Ask an "
                f"administrator for the role kubeseg-user there."
            )

    async def job(self, name: str) -> Job | None:
        """The TrainingJob `name`, or None where there is none, or it is being deleted."""
        try:
            found: Job = await self.kube.request(self.token, "GET", f"{self._jobs}/{quote(name)}")
        except NotFoundError:
            return None
        return None if found["metadata"].get("deletionTimestamp") else found

    async def jobs(self) -> list[Job]:
        """All TrainingJobs of the namespace."""
        found: list[Job] = []
        more = ""
        while True:
            params = {"limit": str(PAGE)} | ({"continue": more} if more else {})
            page = await self.kube.request(self.token, "GET", self._jobs, params=params)
            found += page.get("items", [])
            more = page.get("metadata", {}).get("continue") or ""
            if not more:
                return found

    async def create_job(self, job: Job) -> Job:
        """Makes the TrainingJob. Raises ConflictError where its name is taken."""
        made: Job = await self.kube.request(self.token, "POST", self._jobs, body=job)
        return made

    async def patch_job(self, name: str, spec: dict[str, Any], uid: str) -> Job:
        """Merges `spec` into the TrainingJob with this name *and* UID; NotFoundError without it."""
        patched: Job = await self.kube.request(
            self.token,
            "PATCH",
            f"{self._jobs}/{quote(name)}",
            body={"metadata": {"uid": uid}, "spec": spec},
            content_type="application/merge-patch+json",
        )
        return patched

    async def delete_job(self, name: str, uid: str) -> None:
        """Deletes the TrainingJob with this name and UID; its pods get SIGTERM, its run stays."""
        await self.kube.request(
            self.token,
            "DELETE",
            f"{self._jobs}/{quote(name)}",
            body={
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "propagationPolicy": "Background",
                "preconditions": {"uid": uid},
            },
        )

    async def jobs_reading(self, dataset: str) -> list[str]:
        """Names of the TrainingJobs that read this data set and have not finished."""
        return sorted(
            job["metadata"]["name"]
            for job in await self.jobs()
            if job.get("spec", {}).get("dataset", {}).get("name") == dataset
            and status_of(job).phase not in FINISHED
        )
