"""Replies of the native calls."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from kubeseg_api.errors import PROBLEM_TYPE
from kubeseg_api.storage import datasets


class Problem(BaseModel):
    """An error (RFC 9457), some with further members, such as `jobs`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Name of the kind of problem, as a URI.")
    title: str = Field(description="The kind of problem in a few words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong here, and what to do about it.")


class DatasetInfo(BaseModel):
    """A data set."""

    name: str = Field(description="Its name, as spec.dataset.name takes it.")
    images: int = Field(description="Image files in all parts together.")
    parts: dict[str, int] = Field(
        description="Image files in each part (train, val, …) of one that brings its own split; "
        "empty otherwise."
    )

    @classmethod
    def of(cls, info: datasets.Info) -> DatasetInfo:
        """What the workspace says of it."""
        return cls(
            name=info.name, images=info.images, parts={k: n for k, n in info.parts.items() if k}
        )


class DatasetList(BaseModel):
    """All data sets."""

    items: list[DatasetInfo] = Field(description="Sorted by name.")


class JobList(BaseModel):
    """TrainingJobs, as the API server has them."""

    items: list[dict[str, Any]] = Field(description="TrainingJobs with spec and status.")


_TEXTS = {
    400: "What was sent can't be used; the detail says why.",
    401: "No bearer token, or one that is not valid.",
    403: "The token's owner may not do this here.",
    404: "It is not there.",
    408: "The upload has stood still for too long; nothing was kept.",
    409: "It is there already, or in use.",
    413: "Past the limit of this service.",
    422: "The name, a parameter or the layout doesn't fit.",
    503: "The Kubernetes API server, or the workspace, can't be reached: try again.",
    507: "The workspace volume is full; nothing was changed.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Entries of an OpenAPI operation for these errors, and those that any call may have."""
    return {
        status: {
            "description": _TEXTS[status],
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({401, 403, 422, 503, *statuses})
    }
