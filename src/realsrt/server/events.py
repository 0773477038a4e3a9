"""Server-sent events of one job: state, progress, previews; the last event is the final state."""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi.concurrency import run_in_threadpool

from realsrt.server.records import JobRecord
from realsrt.server.service import Service
from realsrt.server.views import JobView, view

_PAUSE = 0.1  # seconds between two looks at a job, at least
_QUIET = 15.0  # seconds after which a comment keeps proxies from closing the connection


async def events(service: Service, id: str, owner: str) -> AsyncIterator[str]:
    """Who reads slowly gets fewer progress events, not old ones."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def call() -> None:
        loop.call_soon_threadsafe(changed.set)

    def look() -> tuple[JobRecord, JobView]:
        """Off the event loop: of a job that waits, those before it are asked for."""
        record = service.job(id, owner)
        return record, view(record, service)

    with service.live.listening(id, call):
        state, progress, shown = "", -1.0, 0
        while True:
            changed.clear()
            record, now = await run_in_threadpool(look)
            for preview in service.live.previews(id)[shown:]:
                shown += 1
                yield _event("preview", json.dumps(preview.said()))
            if now.state != state:
                yield _event("state", now.model_dump_json(exclude_none=True))
            elif now.progress != progress:
                yield _event("progress", json.dumps({"progress": now.progress, "eta_seconds": now.eta_seconds}))
            state, progress = now.state, now.progress
            if record.final or service.stopping:
                return
            await asyncio.sleep(_PAUSE)
            try:
                await asyncio.wait_for(changed.wait(), _QUIET)
            except TimeoutError:
                yield ": still here\n\n"


def _event(kind: str, data: str) -> str:
    return f"event: {kind}\ndata: {data}\n\n"
