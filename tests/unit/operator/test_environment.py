"""What the environment says: what is wrong with it is named, with the variable."""

from __future__ import annotations

import socket

import pytest
from prometheus_client import CollectorRegistry

from kubeseg_operator import environment
from kubeseg_operator.probes import PortTakenError, Servers


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("KUBESEG_PROBES_PORT", "abc", "must be a port between 1 and 65535, not 'abc'"),
        ("KUBESEG_METRICS_PORT", "99999", "must be a port between 1 and 65535, not '99999'"),
        ("KUBESEG_METRICS_PORT", "-1", "must be a port between 1 and 65535, not '-1'"),
        ("KUBESEG_BACKOFF_SECONDS", "0", "must be a number above 0"),
        ("KUBESEG_LOST_NODE_SECONDS", "soon", "must be a number of seconds"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit) as raised:
        environment.read("")
    assert str(raised.value).startswith(f"{name} {words}")


def test_a_level_of_the_log_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.log_level() in {"INFO", "WARNING"}
    monkeypatch.setenv("KUBESEG_LOG_LEVEL", "debug")
    assert environment.log_level() == "DEBUG"
    monkeypatch.setenv("KUBESEG_LOG_LEVEL", "loud")
    with pytest.raises(SystemExit, match="KUBESEG_LOG_LEVEL must be one of DEBUG, INFO"):
        environment.log_level()


def test_a_namespace_that_is_named_twice_is_watched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBESEG_NAMESPACES", "b, a,,b ,a")
    assert environment.read("").namespaces == ["b", "a"]


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        servers = Servers(
            "127.0.0.1",
            ill=lambda: None,
            ready=lambda: (True, ""),
            registry=CollectorRegistry(),
            probes_port=port,
            metrics_port=port,
        )
        with pytest.raises(PortTakenError, match=rf"127\.0\.0\.1:{port} can't be listened on"):
            await servers.__aenter__()
