"""The Study calls. All parameters are query parameters; paths answer with and without a slash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request

from kubeseg_api.auth import CallerDep
from kubeseg_api.contracts.study.schemas import (
    Checkpoint,
    Curves,
    ErrorReply,
    LastCheckpoint,
    ModelList,
    Started,
    StudyQuery,
    Told,
)
from kubeseg_api.services import models
from kubeseg_api.services.studies import Studies, StudyParameters
from kubeseg_types.names import VIRTUAL_MODELS

SUCCESSFUL = "Successful"
WILL_STOP = "Study will be stopped after current epoch"

router = APIRouter(tags=["study"])
Handler = TypeVar("Handler", bound=Callable[..., Any])

ModelName = Annotated[str, Query(description="The id of the training, as POST /study gave it.")]
Architecture = Annotated[str, Query(description="Name of the architecture.")]

_COMMON = {
    401: "No bearer token, or one that is not valid.",
    403: "The token's owner may not do this here.",
    503: "The Kubernetes API server, or the workspace, can't be reached: try again.",
}
_UNKNOWN_STUDY = {404: "`Study not found`."}


def _call(
    method: str, path: str, summary: str, model: type, errors: dict[int, str] | None = None
) -> Callable[[Handler], Handler]:
    """Registers a handler at `path` and at `path/`."""

    def register(handler: Handler) -> Handler:
        described = {
            status: {"model": ErrorReply, "description": text}
            for status, text in sorted({**_COMMON, **(errors or {})}.items())
        }
        for spelled in (path, f"{path}/"):
            router.add_api_route(
                spelled,
                handler,
                methods=[method],
                response_model=model,
                responses=described,  # type: ignore[arg-type]
                summary=summary,
                response_description=(model.__doc__ or "").strip(),
                include_in_schema=spelled == path,
                operation_id=f"{method.lower()}_{path.strip('/')}",
            )
        return handler

    return register


def _root(request: Request) -> Path:
    root: Path = request.app.state.settings.workspace
    return root


def _studies(request: Request) -> Studies:
    studies: Studies = request.app.state.studies
    return studies


@_call("GET", "/modeles", "Architectures on offer", ModelList)
async def list_models(request: Request, caller: CallerDep) -> ModelList:
    """Names of the architectures that a study may ask for."""
    await caller.require("get", VIRTUAL_MODELS)
    return ModelList(Description=await asyncio.to_thread(models.offered, _root(request)))


@_call("POST", "/modeles", "Offer an architecture", Told, {400: "Unknown architecture."})
async def add_model(request: Request, caller: CallerDep, ModelName: Architecture) -> Told:  # noqa: N803
    """Puts an architecture back on offer; one that is on offer already stays so."""
    await caller.require("create", VIRTUAL_MODELS)
    await asyncio.to_thread(models.offer, _root(request), ModelName)
    return Told(Description=SUCCESSFUL)


@_call("DELETE", "/modeles", "Withdraw an architecture", Told, {404: "Not on offer."})
async def remove_model(request: Request, caller: CallerDep, ModelName: Architecture) -> Told:  # noqa: N803
    """Takes an architecture off the offer; trainings that use it go on."""
    await caller.require("delete", VIRTUAL_MODELS)
    await asyncio.to_thread(models.withdraw, _root(request), ModelName)
    return Told(Description=SUCCESSFUL)


@_call(
    "POST",
    "/study",
    "Start a training",
    Started,
    {
        400: "`Wrong parameters`: a number out of its range, a model that is not on offer, or no "
        "such data set."
    },
)
async def start_study(
    request: Request, caller: CallerDep, asked: Annotated[StudyQuery, Query()]
) -> Started:
    """Starts a training on the data set `<User>/<FileName>` and returns its id."""
    parameters = StudyParameters(
        user=asked.User,
        file_name=asked.FileName,
        epochs=asked.Epochs,
        learning_rate=asked.LR,
        image_size=asked.ImgSize,
        batch_size=asked.BatchSize,
        model=asked.Model,
        test_size=asked.TestSize,
    )
    return Started(ModelName=await _studies(request).start(caller, parameters))


@_call(
    "PUT",
    "/study",
    "Change the number of epochs",
    Told,
    _UNKNOWN_STUDY
    | {400: "`Wrong parameters`: Epochs out of range.", 409: "The study has failed for good."},
)
async def change_study(
    request: Request,
    caller: CallerDep,
    ModelName: ModelName,  # noqa: N803
    Epochs: Annotated[int, Query(description="Epochs wanted in all: 1 to 100000.")],  # noqa: N803
) -> Told:
    """Changes the number of epochs of the running training, without a restart; with no more than
    are done already it ends after the current one. More epochs let a finished one go on.
    """
    ends = await _studies(request).set_epochs(caller, ModelName, Epochs)
    return Told(Description=WILL_STOP if ends else SUCCESSFUL)


@_call("GET", "/study", "Metrics by epoch", Curves, _UNKNOWN_STUDY)
async def show_study(request: Request, caller: CallerDep, ModelName: ModelName) -> Curves:  # noqa: N803
    """Loss and Dice of each finished epoch; still there when the study was deleted."""
    history = await _studies(request).history(caller, ModelName)
    return Curves(
        train_loss=[epoch.train_loss for epoch in history],
        train_dice=[epoch.train_dice for epoch in history],
        val_loss=[epoch.val_loss for epoch in history],
        val_dice=[epoch.val_dice for epoch in history],
    )


@_call("DELETE", "/study", "End a training", LastCheckpoint, _UNKNOWN_STUDY)
async def delete_study(
    request: Request,
    caller: CallerDep,
    ModelName: ModelName,  # noqa: N803
) -> LastCheckpoint:
    """Ends the training and forgets it; its metrics and weights stay."""
    return LastCheckpoint(FilePath=await _studies(request).delete(caller, ModelName))


@_call(
    "GET",
    "/checkstudy",
    "Weights of an epoch",
    Checkpoint,
    {404: "`Study not found`, also where that epoch has no weights."},
)
async def check_study(
    request: Request,
    caller: CallerDep,
    ModelName: ModelName,  # noqa: N803
    Epoch: Annotated[int, Query(description="The epoch, from 1.")],  # noqa: N803
) -> Checkpoint:
    """Where the weights of that epoch are; only of a file that is there."""
    return Checkpoint(FilePath=await _studies(request).checkpoint(caller, ModelName, Epoch))
