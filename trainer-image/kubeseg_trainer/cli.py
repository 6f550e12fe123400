"""The command line. Light: heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kubeseg_trainer.ending import Ending, leave
from kubeseg_trainer.environment import follow_launcher, prepare_environment, prepare_logging
from kubeseg_trainer.errors import ConfigurationError
from kubeseg_trainer.placement import launched, pod_of, visible_gpus
from kubeseg_trainer.remove_command import add_remove_command, remove
from kubeseg_trainer.weights_command import add_weights_command, put_weights
from kubeseg_types.exit_codes import ExitCode
from kubeseg_types.names import ENV_POD_IP, TERMINATION_LOG, TRAINER_PORT


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not {text!r}")
    return int(text)


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
    train.add_argument("--scratch", type=Path, help="folder on this node for decoded images")
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
    train.add_argument(
        "--processes",
        type=_at_least_one,
        help="processes that train together here; default: one for each GPU (or KUBESEG_PROCESSES)",
    )

    check = commands.add_parser(
        "check", help="check the data set of a configuration: seconds, no GPU, nothing is trained"
    )
    check.add_argument("--config", type=Path, required=True, help="as of train")
    check.add_argument("--workspace", type=Path, required=True, help="folder with datasets/")
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    check.add_argument(
        "--network",
        action="store_true",
        help="also try the network at this size, the augmentation, and the weights to begin with",
    )
    check.add_argument(
        "--termination-log", type=Path, default=Path(TERMINATION_LOG), help="as of train"
    )

    predict = commands.add_parser(
        "predict",
        help="segment images with a trained model",
        description="Writes <out>/<name>.png for each image: a palette picture in the classes' "
        "colours, whose values are the labels.",
    )
    predict.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="a run's folder or its model/, a .safetensors file, or an .onnx file",
    )
    predict.add_argument(
        "images", type=Path, metavar="IMAGES", nargs="+", help="images, or folders of them"
    )
    predict.add_argument("--out", type=Path, required=True, help="folder for the label images")
    predict.add_argument(
        "--overlay", action="store_true", help="also <name>.overlay.jpg: the labels over the image"
    )
    predict.add_argument(
        "--probabilities",
        action="store_true",
        help="also <name>.npy: each class's probability, classes × height × width, float16",
    )
    predict.add_argument(
        "--existing",
        choices=("refuse", "skip", "overwrite"),
        default="refuse",
        help="label images that are there: begin nothing (default), leave them, make them anew",
    )
    predict.add_argument(
        "--batch", type=_count, default=4, help="images or windows at a time (default: 4)"
    )
    predict.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if any"
    )

    add_weights_command(commands)
    add_remove_command(commands)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1024:
        raise argparse.ArgumentTypeError(f"must be 1 to 1024, not {text}")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code (`kubeseg_types.exit_codes`)."""
    options = _parser().parse_args(argv)
    prepare_environment(hub=options.command == "weights")
    # The workspace belongs to a group: the facade reads what a trainer wrote, and removes it.
    os.umask(0o002)
    if options.command == "predict":
        from kubeseg_trainer.predict_command import PredictOptions, predict_images

        prepare_logging(terminal=True)
        given = {key: value for key, value in vars(options).items() if key != "command"}
        return predict_images(PredictOptions(**given))
    if options.command == "check":
        return _check(options)
    if options.command == "weights":
        prepare_logging(terminal=True)
        return put_weights(options)
    if options.command == "remove":
        prepare_logging(terminal=True)
        return remove(options)
    return _train(options, argv)


def _train(options: argparse.Namespace, argv: Sequence[str] | None) -> int:
    follow_launcher()
    if not launched(os.environ):
        try:
            pod = pod_of(os.environ, processes=options.processes, gpus=visible_gpus())
        except ConfigurationError as error:
            prepare_logging(terminal=False)
            ending = Ending(ExitCode.CONFIGURATION, str(error))
            leave(ending, None, None, None, options.termination_log)
            return int(ending.code)
        if pod.processes > 1:
            from kubeseg_trainer.launcher import launch

            prepare_logging(terminal=sys.stdout.isatty())
            command = [sys.executable, "-m", "kubeseg_trainer", *(argv or ())]
            # As we were started ourselves, be it by the script, by -m or by another program.
            again = command if argv is not None else [sys.executable, *sys.orig_argv[1:]]
            return launch(pod, again, options.termination_log)
        if pod.size > 1:
            os.environ.update(pod.environment(0, pod.port))
    # Before the imports, which take a while: process 1 of a container ignores SIGTERM till then.
    from kubeseg_trainer.engine.signals import STOPPING, StopRequest

    stop = StopRequest(STOPPING)
    stop.install()
    from kubeseg_trainer.engine.report import wants_bar
    from kubeseg_trainer.session import TrainOptions
    from kubeseg_trainer.train_command import train

    rank = int(os.environ.get("RANK", "0"))
    bar = wants_bar() and rank == 0
    prepare_logging(terminal=bar, rank=rank)
    return train(
        TrainOptions(
            config=options.config,
            workspace=options.workspace,
            address=os.environ.get(ENV_POD_IP) or "127.0.0.1",
            port=None if options.no_server else options.port,
            termination_log=options.termination_log,
            bar=bar,
            scratch=options.scratch,
        ),
        stop,
    )


def _check(options: argparse.Namespace) -> int:
    from kubeseg_trainer.check_command import CheckOptions, check
    from kubeseg_trainer.engine.signals import StopRequest

    stop = StopRequest()
    stop.install()
    # A report as JSON stands alone on stdout.
    prepare_logging(terminal=True, stream=sys.stderr if options.json else None)
    chosen = CheckOptions(
        config=options.config,
        workspace=options.workspace,
        as_json=options.json,
        network=options.network,
        termination_log=options.termination_log,
    )
    code = check(chosen, stop)
    stop.over()
    return code


if __name__ == "__main__":
    sys.exit(main())
