"""A safetensors file as a stream of buffers.

The library's own `save` builds the whole file in memory once more and wants contiguous tensors;
behind a running training neither is to be had cheaply. It reads these files, which the tests check.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from kubeseg_trainer.files import Buffer

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
#: Integers of the same width: numpy has no bfloat16, and bytes are bytes.
_WIDTHS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Bytes that the values of these tensors take."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def tensor_file(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Iterator[Buffer]:
    """The parts of a safetensors file with these tensors (on the CPU, of any memory format).

    Lays out as https://huggingface.co/docs/safetensors describes: the header's length (64 bits,
    little endian), the header as JSON padded to 8 bytes, the tensors' bytes without gaps.
    """
    # Wide types first, so that each tensor is aligned to its type.
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        if tensors[name].numel():
            yield _bytes_of(tensors[name])


def _bytes_of(tensor: Tensor) -> memoryview:
    """The tensor's values, row by row.

    By numpy, in this thread alone: torch would set up a second team of threads for it, which
    the training's own would have to share the cores with.
    """
    array = tensor.detach().view(_WIDTHS[tensor.element_size()]).numpy()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
