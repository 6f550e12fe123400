"""`make demo` and `make down`: from nothing to a trained model, step by step.

Each step finds what an earlier, perhaps interrupted run has left, and goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from kubeseg_local.build import BuildError
from kubeseg_local.cluster import Cluster, ClusterError
from kubeseg_local.demo import result
from kubeseg_local.demo.advice import advice
from kubeseg_local.demo.facade import Facade
from kubeseg_local.demo.failure import DemoError
from kubeseg_local.demo.follow import apply, follow, leftover
from kubeseg_local.demo.install import Kubectl, install, make_token
from kubeseg_local.demo.plan import USER, Plan, Wish, make_plan
from kubeseg_local.demo.screen import Screen
from kubeseg_local.layout import REPOSITORY
from kubeseg_local.namespaces import NamespaceError
from kubeseg_types.status import TrainingJobStatus

STATE = REPOSITORY / ".kubeseg"
SCRATCH = STATE / "demo"
LOCK = STATE / "demo.lock"
RESULTS = REPOSITORY / "demo"
TOKEN = RESULTS / "token"
GPUS = 2
INTERRUPTED = 130


def demo(wish: Wish, port_base: int | None, screen: Screen) -> None:
    """All steps. Raises DemoError, ClusterError, BuildError or NamespaceError."""
    RESULTS.mkdir(exist_ok=True)
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    # The data first: what is wrong with it should not be found out after a cluster's start.
    with screen.step("data") as step:
        step.say("checking and packing")
        plan = make_plan(wish, SCRATCH, RESULTS)
        step.result = plan.described
    kubectl, facade = _service(port_base, screen)
    _train(kubectl, facade, plan, screen)
    status = follow(kubectl, plan, screen)
    _show_model(facade, plan, status, screen)
    screen.line()
    study = facade.next_study(USER)
    screen.line(advice(facade.address, plan.dataset, study, plan.job, RESULTS.name))


def _service(port_base: int | None, screen: Screen) -> tuple[Kubectl, Facade]:
    """A cluster with the chart on it."""
    cluster = Cluster(port_base=port_base)
    with screen.step("cluster") as step:
        if cluster.status().phase in {"Absent", "Stopped", "Failed"}:
            cluster = Cluster(port_base=port_base, gpus=GPUS)
        started = cluster.up(step.say)
        settings = cluster.status().settings
        gpus = f"   {settings.gpus} GPUs (pretended)" if settings and settings.gpus else ""
        parts = "etcd · API server · controllers · scheduler · kubelet"
        step.result = f"{parts}{gpus}{'' if started else '   ran already'}"
    kubectl = Kubectl(cluster)
    with screen.step("chart") as step:
        address = install(kubectl, cluster, step)
        facade = Facade(address, make_token(kubectl, TOKEN))
        facade.wait_ready()
        step.result = f"operator Ready · facade Ready at {address}"
    return kubectl, facade


def _train(kubectl: Kubectl, facade: Facade, plan: Plan, screen: Screen) -> None:
    """Upload the data and apply the TrainingJob, unless just that is under way already."""
    there = leftover(kubectl, plan)
    if there == "running":
        screen.line(f"● train    {plan.job} is under way already: going on with it")
        return
    with screen.step("upload") as step:
        if there is not None:
            step.say(f"removing {plan.job} of an earlier run")
            kubectl.run("delete", "trainingjob", plan.job, "--timeout=90s")
        step.say(f'{plan.described} → data set "{plan.dataset}"')
        if not facade.upload(plan.dataset, plan.archive):
            raise DemoError(
                f'the data set "{plan.dataset}" is read by another job that has not finished: wait '
                "for it or delete it (kubectl -n kubeseg get tj), then run this again"
            )
        # A study may still read the copy, which then stays as it is.
        facade.upload(plan.copy, plan.archive)
        step.result = f'{plan.described} → data set "{plan.dataset}"'
    apply(kubectl, plan)
    screen.line(f"● train    kubectl apply -f {_short(plan.manifest)}")


def _show_model(facade: Facade, plan: Plan, status: TrainingJobStatus, screen: Screen) -> None:
    """Download the best model, check it, and try it on a picture."""
    run = status.run
    if run is None or run.best_weights is None or run.best_sha256 is None:
        raise DemoError(f"{plan.job} succeeded, but its status names no best model (status.run)")
    weights = plan.results / "model.safetensors"
    with screen.step("model") as step:
        digest = facade.download(
            run.best_weights, weights, lambda got: step.say(f"{got / 2**20:.1f} MiB")
        )
        if digest != run.best_sha256:
            raise DemoError(
                f"{weights}: its SHA-256 is {digest}, and status.run.bestSha256 says "
                f"{run.best_sha256}: the download is not the model; run this again"
            )
        epoch = result.read_header(weights).get("epoch")
        if epoch != str(run.best_epoch):
            raise DemoError(f"{weights} is of epoch {epoch}, the best is {run.best_epoch}")
        step.result = f"best epoch {epoch} → {_short(weights)}   (sha256 ok)"
    with screen.step("look") as step:
        step.say("predicting")
        picture = plan.results / "prediction.png"
        found = result.predict(weights, plan.held_back.image, SCRATCH / "predicted")
        names = result.class_names(weights)
        iou = result.draw(plan.held_back, found, names, plan.ignore, picture)
        step.result = f"{_short(picture)}   image | truth | prediction, IoU {iou:.2f}"


def _short(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def down(screen: Screen) -> None:
    """End the cluster and remove its files. The models and pictures stay: they are the user's."""
    removed = Cluster().down()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    TOKEN.unlink(missing_ok=True)
    LOCK.unlink(missing_ok=True)
    screen.line("the cluster is gone, with its data sets and runs" if removed else "nothing ran")
    kept = sorted(_short(path) for path in RESULTS.glob("*")) if RESULTS.exists() else []
    if kept:
        screen.line(f"kept: {', '.join(kept)} (`make clean` removes these too)")
    elif RESULTS.exists():
        RESULTS.rmdir()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Raise DemoError where another demo of this checkout is under way."""
    STATE.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another `make demo` of this checkout is under way") from None
        yield


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on: {text!r}")
    return int(text)


def _label(text: str) -> int:
    if not text.isdecimal() or int(text) > 255:
        raise argparse.ArgumentTypeError(f"must be a label from 0 to 255: {text!r}")
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=Path, help="DATA=: folder with images/ and masks/")
    parser.add_argument("--ignore", type=_label, help="IGNORE=: label that is not counted")
    parser.add_argument("--epochs", type=_positive, help="EPOCHS=")
    parser.add_argument("--size", type=_positive, help="SIZE=: side of the images, in pixels")
    parser.add_argument("--port-base", type=_positive, help="PORT_BASE=: first of 400 ports")
    parser.add_argument("--down", action="store_true", help="end the cluster instead")
    return parser.parse_args()


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Run the demo, or end its cluster; the exit code."""
    arguments = _arguments()
    screen = Screen()
    signal.signal(signal.SIGTERM, _interrupt)
    data = arguments.data.expanduser() if arguments.data else None
    try:
        if arguments.down:
            down(screen)
            return 0
        with _alone():
            wish = Wish(data, arguments.ignore, arguments.epochs, arguments.size)
            try:
                demo(wish, arguments.port_base, screen)
            finally:
                shutil.rmtree(SCRATCH, ignore_errors=True)
        return 0
    except (BuildError, ClusterError, DemoError, NamespaceError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        print(f"\ndemo: {named}{os.strerror(error.errno or 0)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\ninterrupted. What was started, cluster and training, goes on running. The same "
            "command again goes on from here; `make down` ends it all.",
            file=sys.stderr,
        )
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
