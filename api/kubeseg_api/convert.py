"""`python -m kubeseg_api.convert SOURCE TARGET`: safetensors to a plain state_dict for torch.load.

A process of its own, since torch is large and the facade is not.
"""

from __future__ import annotations

import sys


def convert(source: str, target: str) -> None:
    """Writes the tensors of `source` (safetensors) as a dictionary that `torch.load` opens, also
    with weights_only.
    """
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(source), target)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m kubeseg_api.convert SOURCE.safetensors TARGET.pt")
    convert(sys.argv[1], sys.argv[2])
