"""`kubeseg-trainer weights`: pretrained weights of encoders for a workspace."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from kubeseg_trainer.errors import ConfigurationError, TrainerError, ending_of

log = logging.getLogger(__name__)


def add_weights_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's own options."""
    weights = commands.add_parser(
        "weights", help="put pretrained weights of an encoder into a workspace"
    )
    actions = weights.add_subparsers(dest="action", required=True)
    fetch = actions.add_parser("fetch", help="download them from the hub of smp and timm")
    convert = actions.add_parser("convert", help="make them of a file (.safetensors, .pth, .pt)")
    convert.add_argument("file", type=Path, help="a state_dict of the encoder, or around it")
    for parser in (fetch, convert):
        parser.add_argument("--encoder", required=True, help="as in spec.model.encoder")
        parser.add_argument("--name", required=True, help="as in spec.model.encoderWeights")
        parser.add_argument(
            "--workspace", type=Path, required=True, help="folder that has or gets weights/"
        )


def put_weights(options: argparse.Namespace) -> int:
    """Run `weights fetch` or `weights convert`; returns the exit code."""
    try:
        from pydantic import ValidationError

        from kubeseg_types.spec import Model

        try:
            Model(encoder=options.encoder, encoder_weights=options.name)
        except ValidationError as error:
            option = "encoder" if error.errors()[0]["loc"][0] == "encoder" else "name"
            raise ConfigurationError(
                f"--{option} must be letters, digits, '.', '_', '+' and '-', beginning with a "
                f"letter or digit, not {getattr(options, option)!r}"
            ) from error
        from kubeseg_trainer.tasks.segmentation.network import hub
        from kubeseg_trainer.tasks.segmentation.network.network import check_encoder

        check_encoder(options.encoder)
        if options.action == "fetch":
            path = hub.fetch(options.workspace, options.encoder, options.name)
        else:
            path = hub.convert(options.workspace, options.encoder, options.name, options.file)
        log.info("%s (%s bytes)", path, f"{path.stat().st_size:,}")
        return 0
    except (TrainerError, OSError, MemoryError) as error:
        code, text = ending_of(error)
        log.error("%s", text)  # noqa: TRY400 - the sentence says it; a traceback adds nothing
        return int(code)
