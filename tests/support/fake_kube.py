"""An API server for the facade's unit tests: TrainingJobs in memory, rights by token.

It answers over real HTTP as the real one does where the facade looks: status codes, `Status`
bodies, merge patches, UID preconditions, paging. It validates no schema and runs no operator;
tests/integration asks the real server.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import uuid
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.merge_patch import merge

PREFIX = "/apis/kubeseg.dev/v1alpha1/namespaces/team/trainingjobs"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
ALL_VERBS = frozenset({"get", "list", "create", "patch", "delete"})
EVERYTHING = dict.fromkeys(("trainingjobs", "datasets", "models"), ALL_VERBS)


def status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason}
    return web.json_response({**body, "message": message}, status=code)


class FakeKube:
    """`tokens` maps a token to its rights, resource -> verbs."""

    def __init__(self) -> None:
        self.tokens: dict[str, dict[str, frozenset[str]]] = {
            "admin": EVERYTHING,
            "nobody": {},
        }
        self.jobs: dict[str, dict[str, Any]] = {}
        self.fail_with: int | None = None
        self.refuse_create: web.Response | None = None
        self.requests: list[tuple[str, str, str]] = []
        self._versions: Iterator[int] = itertools.count(1)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("")).rstrip("/")

    async def _serve(self, request: web.Request) -> web.Response:
        path = request.path
        if self.fail_with:
            return status(self.fail_with, "InternalError", "etcd is away")
        if path == "/readyz":
            return web.Response(text="ok")
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.requests.append((token, request.method, path))
        if token not in self.tokens:
            return status(401, "Unauthorized", "Unauthorized")
        body: Any = await request.json() if request.can_read_body else None
        await asyncio.sleep(0)
        if path == REVIEWS:
            wanted = body["spec"]["resourceAttributes"]
            allowed = self._may(token, wanted["verb"], wanted["resource"])
            return web.json_response({**body, "status": {"allowed": allowed}}, status=201)
        assert path.startswith(PREFIX), path
        name = path.removeprefix(PREFIX).strip("/")
        verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}.get(request.method)
        verb = verb or ("get" if name else "list")
        if not self._may(token, verb, "trainingjobs"):
            return status(403, "Forbidden", f'User "{token}" cannot {verb} trainingjobs')
        if verb == "create":
            return self._create(body)
        if verb == "list":
            return self._list(request)
        if name not in self.jobs:
            return status(404, "NotFound", f'trainingjobs "{name}" not found')
        return self._change(verb, name, body)

    def _may(self, token: str, verb: str, resource: str) -> bool:
        return verb in self.tokens[token].get(resource, frozenset())

    def _create(self, body: dict[str, Any]) -> web.Response:
        name = body["metadata"]["name"]
        if self.refuse_create is not None:
            return self.refuse_create
        if name in self.jobs:
            return status(409, "AlreadyExists", f'trainingjobs "{name}" already exists')
        job = copy.deepcopy(body)
        job["metadata"] |= {"uid": str(uuid.uuid4()), "resourceVersion": str(next(self._versions))}
        self.jobs[name] = job
        return web.json_response(job, status=201)

    def _list(self, request: web.Request) -> web.Response:
        names = sorted(self.jobs)
        start = int(request.query.get("continue", "0"))
        end = start + int(request.query.get("limit", "500"))
        more = {"continue": str(end)} if end < len(names) else {}
        items = [self.jobs[name] for name in names[start:end]]
        return web.json_response({"items": items, "metadata": more})

    def _change(self, verb: str, name: str, body: Any) -> web.Response:
        job = self.jobs[name]
        uid = job["metadata"]["uid"]
        if verb == "patch":
            if body.get("metadata", {}).get("uid", uid) != uid:
                return status(409, "Conflict", "Precondition failed: UID in precondition")
            job = self.jobs[name] = merge(job, body)
        if verb == "delete":
            if (body or {}).get("preconditions", {}).get("uid", uid) != uid:
                return status(409, "Conflict", "Precondition failed: UID in precondition")
            assert body["propagationPolicy"] == "Background"
            del self.jobs[name]
        return web.json_response(job)
