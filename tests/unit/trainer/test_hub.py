"""Asking the hub: what a hiccup does, and which names are taken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from kubeseg_trainer import cli
from kubeseg_trainer.tasks.segmentation.network import hub
from kubeseg_types.exit_codes import ExitCode


@pytest.mark.parametrize(("failures", "answers"), [(0, True), (2, True), (3, False)])
def test_a_hub_is_asked_again_before_it_is_given_up(
    failures: int, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = failures
    pauses: list[float] = []

    def head(*_: object, **__: object) -> None:
        nonlocal left
        if left:
            left -= 1
            raise ConnectionError("no such host")

    monkeypatch.setattr(hub, "get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", pauses.append)
    assert (hub._silent() is None) is answers
    assert pauses == list(hub.PAUSES[:failures])


@pytest.mark.parametrize("option", ["name", "encoder"])
def test_a_name_that_would_leave_the_folder_is_refused(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"name": "ours", "encoder": "resnet18", option: "../x"}
    command = ["weights", "convert", str(tmp_path / "file.pth"), "--workspace", str(tmp_path)]
    for name, value in options.items():
        command += [f"--{name}", value]
    assert cli.main(command) == ExitCode.CONFIGURATION
    assert f"--{option} must be letters, digits" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
