"""Errors that the kubelet is told, with the code that gRPC knows them by."""

from __future__ import annotations

import grpc


class CallError(Exception):
    """A call can't be done; the message reaches the pod's events."""

    code = grpc.StatusCode.UNKNOWN


class NotFoundError(CallError):
    """There is no such thing."""

    code = grpc.StatusCode.NOT_FOUND


class UnsupportedError(CallError):
    """What is asked for needs more than processes."""

    code = grpc.StatusCode.UNIMPLEMENTED


class TimedOutError(CallError):
    """It took longer than the caller allows."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
