"""The facade's own client of the API server."""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestServer

from kubeseg_api.kube import Cluster, Kube


async def test_an_object_that_is_nested_too_deep_hides_no_others() -> None:
    """Users write metadata.managedFields as they like, and no schema reaches there."""
    deep = b'{"f:a":' * 5000 + b"{}" + b"}" * 5000
    text = b'{"items": [{"n": 1}, {"deep": %s, "n": 2}]}' % deep

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=text, content_type="application/json")

    app = web.Application()
    app.router.add_get("/x", answer)
    async with TestServer(app) as server:
        cluster = Cluster(str(server.make_url("")).rstrip("/"), None, "default")
        async with Kube(cluster) as kube:
            found = await kube.request("t", "GET", "/x")
    assert [item["n"] for item in found["items"]] == [1, 2]
