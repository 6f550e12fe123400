"""Weights as tensors by name, read from files of several kinds; never anything but tensors."""

from __future__ import annotations

import pickle
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from kubeseg_trainer.errors import ConfigurationError

#: Endings of weights' files, in the order in which they are looked for.
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
#: Where the tensors are in checkpoints that hold more.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state")
#: What wrappers put before the names of a network's tensors.
_PREFIXES = ("", "module.", "_orig_mod.", "encoder.", "model.", "backbone.", "model.encoder.")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in the file at `path`, on the CPU.

    ConfigurationError where it can't be read, or holds none. Files of torch are read with
    `weights_only`: nothing in them is executed.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigurationError(
            f"{path} is no file of torch, or holds more than tensors (Python objects, which may be "
            f"anything): only tensors are read. Save the state_dict alone: "
            f"torch.save(network.state_dict(), …)"
        ) from error
    # torch's old format stumbles over other files in whatever way their bytes lead to.
    except Exception as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigurationError(f"{path} can't be read as weights: {first}") from error
    while isinstance(content, dict):
        inner = next(
            (content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), None
        )
        if inner is None:
            break
        content = inner
    tensors = (
        {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, dict)
        else {}
    )
    if not tensors:
        raise ConfigurationError(f"{path} holds no tensors by name: it must be a state_dict")
    return tensors


def without_prefix(tensors: dict[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """`tensors` by the names that are `expected`, where a wrapper put something before them.

    The prefix that leaves most of the expected names wins; what doesn't bear it is left out.
    """
    wanted = set(expected)

    def stripped(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }

    return max(map(stripped, _PREFIXES), key=lambda found: len(wanted & found.keys()))
