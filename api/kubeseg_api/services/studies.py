"""Studies: a training that a user of the source system knows as `<User>-<n>`."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kubeseg_api.caller import Caller, Job, status_of, uid_of
from kubeseg_api.errors import (
    ApiError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    UnavailableError,
)
from kubeseg_api.services import models
from kubeseg_api.storage import datasets, runs
from kubeseg_api.storage import studies as ids
from kubeseg_types import names, workspace
from kubeseg_types.refusals import refusals
from kubeseg_types.spec import TrainingJobSpec
from kubeseg_types.status import EpochMetrics, Phase
from kubeseg_types.trainer import EpochRecord

log = logging.getLogger(__name__)

WRONG = "Wrong parameters"
UNKNOWN = "Study not found"
HASH_LENGTH = 10
NAME_TRIES = 20


@dataclass(frozen=True)
class StudyParameters:
    """What a study is asked for, as it came in: types are right, values not yet checked."""

    user: str
    file_name: str
    epochs: int
    learning_rate: float
    image_size: int
    batch_size: int
    model: str
    test_size: float

    @property
    def dataset(self) -> str:
        """Name of the data set in the workspace."""
        return f"{self.user}/{self.file_name}"

    def in_range(self) -> bool:
        """Whether every number is within the bounds of the Study contract (NaN never is)."""
        return (
            self.epochs > 0
            and math.isfinite(self.learning_rate)
            and 0 < self.learning_rate <= 1
            and 112 <= self.image_size <= 1048
            and 1 <= self.batch_size <= 100
            and 0 < self.test_size <= 0.9
            and workspace.dataset_name_error(self.dataset) is None
        )

    def spec(self) -> dict[str, Any]:
        """Its part of the spec of the TrainingJob."""
        return {
            "model": {"architecture": self.model},
            "dataset": {"name": self.dataset, "testSize": self.test_size},
            "training": {
                "epochs": self.epochs,
                "learningRate": self.learning_rate,
                "batchSize": self.batch_size,
                "imageSize": self.image_size,
            },
            "checkpoint": {"keepEpochs": True},
        }


def job_name(study: str) -> str:
    """Name of the study's TrainingJob: a slug for people, a hash of the id to be unique."""
    digest = hashlib.sha256(study.encode()).hexdigest()[:HASH_LENGTH]
    slug = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")
    room = names.MAX_NAME_LENGTH - HASH_LENGTH - 1
    return f"{slug[:room].strip('-') or 'study'}-{digest}"


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, objects field by field."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def manifest(parameters: StudyParameters, study: str, template: Mapping[str, Any]) -> Job:
    """The study's TrainingJob. Raises ValueError where the contract doesn't allow it."""
    spec = merged(template, parameters.spec())
    wanted = TrainingJobSpec.model_validate(spec)
    refused = refusals(wanted)
    if wanted.artifacts.on_delete != "Retain":
        refused.append(
            "spec.artifacts.onDelete: must be Retain: metrics and weights of a study stay when it "
            "is deleted"
        )
    if refused:
        raise ValueError("; ".join(refused))
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {
            "name": job_name(study),
            "annotations": {
                names.ANNOTATION_STUDY: study,
                names.ANNOTATION_USER: parameters.user,
            },
        },
        "spec": spec,
    }


def check_template(template: Mapping[str, Any]) -> None:
    """Raises ValueError where no study could be made with this template."""
    manifest(StudyParameters("u", "d", 1, 0.1, 112, 1, "Unet", 0.2), "u-1", template)


class Studies:
    """Studies of one workspace, made and seen with a caller's rights."""

    def __init__(self, root: Path, template: Mapping[str, Any]) -> None:
        self._root = root
        self._template = template

    async def start(self, caller: Caller, parameters: StudyParameters) -> str:
        """Starts a training and returns its id.

        Raises BadRequestError (`Wrong parameters`), ForbiddenError, or what the API server says.
        """
        await caller.require("create", names.PLURAL)
        if not parameters.in_range() or not await asyncio.to_thread(self._there, parameters):
            raise BadRequestError(WRONG)
        number = 0
        for _ in range(NAME_TRIES):
            study, number = await asyncio.to_thread(
                ids.reserve, self._root, parameters.user, number
            )
            if await self._create(caller, parameters, study):
                log.info("study %s: made TrainingJob %s", study, job_name(study))
                return study
        raise ConflictError(
            f"the {NAME_TRIES} ids up to {parameters.user}-{number} belong to TrainingJobs that "
            "this workspace does not know"
        )

    def _there(self, parameters: StudyParameters) -> bool:
        return parameters.model in models.offered(self._root) and datasets.exists(
            self._root, parameters.dataset
        )

    async def _create(self, caller: Caller, parameters: StudyParameters, study: str) -> bool:
        """Whether the TrainingJob was made; False where its name is taken."""
        try:
            job = manifest(parameters, study, self._template)
            await asyncio.to_thread(
                ids.describe,
                self._root,
                study,
                user=parameters.user,
                job=job_name(study),
                file_name=parameters.file_name,
            )
            await caller.create_job(job)
        except UnavailableError:
            raise  # it may have been made: the id stays taken
        except ConflictError as error:
            if error.kind != "already-exists":
                raise
            return False  # by a TrainingJob of that name: the id stays taken
        except (ApiError, OSError, ValidationError, ValueError) as error:
            await asyncio.to_thread(ids.release, self._root, study)
            if isinstance(error, ValueError):  # such as more epochs than the contract allows
                raise BadRequestError(WRONG) from error
            raise
        return True

    async def set_epochs(self, caller: Caller, study: str, epochs: int) -> bool:
        """Changes the number of epochs; whether the training ends after its current epoch.

        Raises NotFoundError, also after a deletion; BadRequestError; ConflictError for a study
        that has failed, which nothing starts again.
        """
        job = await caller.job(job_name(study))
        if job is None or not self._is(job, study):
            raise NotFoundError(UNKNOWN)
        if not 0 < epochs <= 100_000:
            raise BadRequestError(WRONG)
        status = status_of(job)
        history = await asyncio.to_thread(self._run(job).history)
        done = max([0, *(record.epoch for record in history)])
        if status.progress:
            done = max(done, status.progress.epoch)
        ends = epochs <= done
        if status.phase == Phase.FAILED and not ends:
            why = next((c.message for c in status.conditions if c.type == "Failed"), "")
            raise ConflictError(
                f"Study has failed and does not go on ({why or 'see its TrainingJob'}); start a "
                "new one with POST /study"
            )
        change: dict[str, Any] = {"training": {"epochs": epochs}}
        if not ends and job["spec"].get("stop"):
            change["stop"] = False  # or the new epochs would never be trained
        try:
            await caller.patch_job(job["metadata"]["name"], change, uid_of(job))
        except NotFoundError as error:
            raise NotFoundError(UNKNOWN) from error
        return ends

    async def history(self, caller: Caller, study: str) -> list[EpochMetrics]:
        """Metrics of every finished epoch, in order; empty before the first."""
        job, run = await self._find(caller, study)
        records: list[EpochRecord] = await asyncio.to_thread(run.history) if run else []
        metrics = [record.metrics() for record in records]
        # A shared file system may show the newest line late; status knows it already.
        live = status_of(job).metrics if job else None
        if live and live.last and live.last.epoch == len(metrics) + 1:
            metrics.append(live.last)
        return metrics

    async def checkpoint(self, caller: Caller, study: str, epoch: int) -> str:
        """Path of the weights of `epoch`. Raises NotFoundError where they are not there."""
        _, run = await self._find(caller, study)
        path = await asyncio.to_thread(run.weights_of, epoch) if run else None
        if path is None:
            raise NotFoundError(UNKNOWN)
        return path

    async def delete(self, caller: Caller, study: str) -> str | None:
        """Ends the training, keeps what it made; the path of the newest weights, or None."""
        job = await caller.job(job_name(study))
        if job is None or not self._is(job, study):
            raise NotFoundError(UNKNOWN)
        try:
            await caller.delete_job(job["metadata"]["name"], uid_of(job))
        except NotFoundError as error:
            raise NotFoundError(UNKNOWN) from error
        log.info("study %s: deleted TrainingJob %s", study, job["metadata"]["name"])
        return await asyncio.to_thread(self._run(job).newest_weights)

    async def _find(self, caller: Caller, study: str) -> tuple[Job | None, runs.Run | None]:
        """The study's TrainingJob and run; without the former, what it left in the workspace."""
        name = job_name(study)
        job = await caller.job(name)
        if job is not None and self._is(job, study):
            return job, self._run(job)
        if not await asyncio.to_thread(ids.is_reserved, self._root, study):
            raise NotFoundError(UNKNOWN)
        return None, await asyncio.to_thread(runs.newest_run, self._root, name)

    def _run(self, job: Job) -> runs.Run:
        return runs.Run(self._root, job["metadata"]["name"], uid_of(job))

    @staticmethod
    def _is(job: Job, study: str) -> bool:
        found: str | None = (job["metadata"].get("annotations") or {}).get(names.ANNOTATION_STUDY)
        return found == study
