"""Pretrained weights from the hub that smp and timm use, kept in a workspace for ever after."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
from huggingface_hub import constants, get_session
from safetensors.torch import save
from torch import Tensor

from kubeseg_trainer.environment import hub_environment
from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.files import write_file
from kubeseg_trainer.tasks.segmentation.network.encoder_weights import (
    canonical,
    find_weights,
    folder_of,
)
from kubeseg_trainer.tasks.segmentation.network.preprocessing import timm_name
from kubeseg_trainer.tasks.segmentation.network.weights_files import read_tensors

log = logging.getLogger(__name__)

#: Seconds that a download may take, the largest encoder's 2 GB included.
LIMIT = 900.0
#: Seconds that a hub has to answer at all, and between the times it is asked: a name server or a
#: proxy that hiccups is no reason to fail a training for good.
ANSWER = 5.0
PAUSES = (1.0, 3.0)


def fetch_command(encoder: str, name: str, root: Path | str) -> list[str]:
    """Arguments of `kubeseg-trainer` that put the weights into the workspace at `root`."""
    return ["weights", "fetch", "--encoder", encoder, "--name", name, "--workspace", str(root)]


def fetch_apart(root: Path, encoder: str, name: str, beat: Callable[[], None]) -> Path:
    """Fetch the weights into the workspace at `root`, in a process of its own; returns their file.

    Of its own, so that it can be given up whatever it waits for, and since this process was told
    to use no network. `beat` is called while it waits; what that raises ends it.
    ConfigurationError with the remedy where the hub can't be reached.
    """
    log.info("encoder weights %s of %s are not in the workspace: asking the hub", name, encoder)
    command = [sys.executable, "-m", "kubeseg_trainer.cli", *fetch_command(encoder, name, root)]
    deadline = time.monotonic() + LIMIT
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, env=hub_environment(), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                beat()
                if time.monotonic() > deadline:
                    raise _unreachable(root, encoder, name, f"no end after {LIMIT:.0f} s")
                try:
                    process.wait(0.2)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    path = find_weights(root, encoder, name)
    if process.returncode != 0 or path is None:
        reason = lines[-1] if lines else f"it ended with code {process.returncode}"
        raise _unreachable(root, encoder, name, reason)
    return path


def _unreachable(root: Path, encoder: str, name: str, reason: str) -> ConfigurationError:
    target = folder_of(root, encoder) / f"{name}.safetensors"
    inside = target.relative_to(root).as_posix()
    command = " ".join(["kubeseg-trainer", *fetch_command(encoder, name, "DIR")])
    return ConfigurationError(
        f"spec.model.encoderWeights: {name!r} of {encoder} is not in the workspace ({inside}), and "
        f"the hub can't be asked: {reason[:300]}. On a machine with network run `{command}`, and "
        f"copy DIR/{inside} to {target}; or leave encoderWeights out, to begin with random weights"
    )


def fetch(root: Path, encoder: str, name: str) -> Path:
    """Ask the hub for the weights and put them into the workspace at `root`; returns their file.

    For a process that may use the network, by `hub_environment`. ConfigurationError where there
    are no such weights or the hub doesn't answer.
    """
    there = find_weights(root, encoder, name)
    if there is not None:
        return there
    silent = _silent()
    if silent is not None:
        # The libraries would try for minutes. What they have in their caches is still looked for.
        constants.HF_HUB_OFFLINE = True
    try:
        tensors = _from_hub(encoder, name)
    except Exception as error:
        # Whatever a network, its libraries and theirs may raise: the sentence is what counts.
        cause = silent or error
        first = (str(cause) or type(cause).__name__).splitlines()[0]
        raise ConfigurationError(
            f"{name} of {encoder} can't be fetched from {constants.ENDPOINT}: "
            f"{type(cause).__name__}: {first}"
        ) from error
    return keep(root, encoder, name, tensors)


def _silent() -> Exception | None:
    """Why the hub doesn't answer; None where it does, or where asking is forbidden."""
    if constants.HF_HUB_OFFLINE:
        return None
    for pause in (*PAUSES, None):
        try:
            get_session().head(constants.ENDPOINT, timeout=ANSWER)
            return None
        except Exception as error:  # noqa: BLE001 - as above: any trouble of a network
            if pause is None:
                return error
            time.sleep(pause)
    raise AssertionError("the last try ends the loop")


def _from_hub(encoder: str, name: str) -> dict[str, Tensor]:
    if encoder.startswith("tu-"):
        full = timm_name(encoder, name)
        assert full is not None
        return dict(timm.create_model(full, pretrained=True).state_dict())
    return dict(smp.encoders.get_encoder(encoder, weights=name).state_dict())


def keep(root: Path, encoder: str, name: str, tensors: dict[str, Tensor]) -> Path:
    """Write `tensors` as the weights `name` of the encoder into the workspace at `root`."""
    folder = folder_of(root, encoder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    packed = {each: value.contiguous() for each, value in tensors.items()}
    write_file(path, save(packed, metadata={"encoder": encoder, "weights": name, "format": "pt"}))
    return path


def convert(root: Path, encoder: str, name: str, file: Path) -> Path:
    """Put the weights in `file`, of any kind that is read, into the workspace at `root`.

    ConfigurationError where they are not this encoder's.
    """
    return keep(root, encoder, name, canonical(encoder, read_tensors(file), file))
