"""The protocol's messages, generated from its `api.proto` when the cluster is set up."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

MODULE = "cri_api_pb2"


def generate(proto: Path, target: Path) -> None:
    """Write the module of the messages into the folder `target`. Raises RuntimeError."""
    from grpc_tools import protoc

    source = target / "cri_api.proto"
    shutil.copyfile(proto, source)
    code = protoc.main(["protoc", f"-I{target}", f"--python_out={target}", str(source)])
    if code != 0:
        raise RuntimeError(f"{proto}: protoc failed with exit code {code}")


def load(folder: Path) -> Any:
    """The module of the messages that `generate` wrote into `folder`."""
    sys.path.insert(0, str(folder))
    return importlib.import_module(MODULE)
