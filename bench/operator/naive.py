"""The twin that one writes first: kopf's own create handler, which makes one Job.

As a program (`python -m bench.operator.naive KUBECONFIG`) it runs until it is terminated.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import kopf


def main() -> None:
    """Run it."""
    from bench.operator.load import FLIGHT, client_of
    from kubeseg_operator.apply import children_path
    from kubeseg_operator.builders import child_job
    from kubeseg_operator.views import job_view
    from kubeseg_types.names import GROUP, PLURAL, VERSION
    from kubeseg_types.spec import TrainingJobSpec

    async def serve() -> None:
        async with client_of(sys.argv[1]) as client:  # type: ignore[arg-type]

            @kopf.on.create(GROUP, VERSION, PLURAL)
            async def created(body: Any, **_: Any) -> None:
                job = job_view(dict(body))
                spec = TrainingJobSpec.model_validate(dict(body["spec"]))
                manifest = child_job(job, spec, attempt=1, image="trainer:1")
                await client.create(children_path(job.key.namespace), manifest)

            @kopf.on.login()
            def login(**more: Any) -> kopf.ConnectionInfo | None:
                return kopf.login_with_kubeconfig(**more)

            settings = kopf.OperatorSettings()
            settings.posting.enabled = False
            settings.peering.standalone = True
            settings.batching.worker_limit = FLIGHT
            await kopf.operator(clusterwide=True, settings=settings)

    os.environ["KUBECONFIG"] = sys.argv[1]
    asyncio.run(serve())


if __name__ == "__main__":
    main()
