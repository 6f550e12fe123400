"""The command line. Light: heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kubeseg_trainer.environment import prepare_environment, prepare_logging
from kubeseg_types.names import ENV_POD_IP, TERMINATION_LOG, TRAINER_PORT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kubeseg-trainer", description="Train image-segmentation networks, and use them."
    )
    version = importlib.metadata.version("kubeseg")
    parser.add_argument("--version", action="version", version=f"kubeseg-trainer {version}")
    commands = parser.add_subparsers(dest="command", required=True)

    train = commands.add_parser(
        "train",
        help="train from a configuration; started again, it goes on from the newest checkpoint",
    )
    train.add_argument(
        "--config",
        type=Path,
        required=True,
        help="a TrainingJob (YAML or JSON), or the configuration the operator makes of it",
    )
    train.add_argument(
        "--workspace", type=Path, required=True, help="folder with datasets/ and runs/"
    )
    train.add_argument("--scratch", type=Path, help="folder on this node for temporary files")
    train.add_argument(
        "--port", type=int, default=TRAINER_PORT, help="port of /progress and /metrics; 0: any"
    )
    train.add_argument("--no-server", action="store_true", help="listen on no port")
    train.add_argument(
        "--termination-log",
        type=Path,
        default=Path(TERMINATION_LOG),
        help="file for the termination message; written only if it is there",
    )

    predict = commands.add_parser("predict", help="segment images with a trained model")
    predict.add_argument("--weights", type=Path, required=True, help="weights (.safetensors)")
    predict.add_argument("--image", type=Path, required=True, nargs="+", help="images")
    predict.add_argument("--out", type=Path, required=True, help="folder for the label images")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (`kubeseg_types.exit_codes`)."""
    options = _parser().parse_args(argv)
    prepare_environment()
    # The workspace belongs to a group: the facade reads what a trainer wrote, and removes it.
    os.umask(0o002)
    if options.command == "predict":
        from kubeseg_trainer.predict_command import predict_images

        prepare_logging(terminal=True)
        return predict_images(options.weights, options.image, options.out)
    # Before the imports, which take a while: process 1 of a container ignores SIGTERM till then.
    from kubeseg_trainer.engine.signals import StopRequest

    stop = StopRequest()
    stop.install()
    from kubeseg_trainer.engine.report import wants_bar
    from kubeseg_trainer.train_command import TrainOptions, train

    bar = wants_bar()
    prepare_logging(terminal=bar)
    return train(
        TrainOptions(
            config=options.config,
            workspace=options.workspace,
            address=os.environ.get(ENV_POD_IP) or "127.0.0.1",
            port=None if options.no_server else options.port,
            termination_log=options.termination_log,
            bar=bar,
        ),
        stop,
    )


if __name__ == "__main__":
    sys.exit(main())
