"""Log lines: one JSON object each, on stderr."""

import json
import logging
import sys
import time
import traceback
from typing import Any

_LOGGER = logging.getLogger("realsrt.server")


def say(event: str, level: int = logging.INFO, problem: BaseException | None = None, **facts: Any) -> None:
    """Something happened; `problem` adds its traceback, in the same line."""
    if problem is not None:
        facts["traceback"] = "".join(traceback.format_exception(problem))
    _LOGGER.log(level, event, extra={"facts": facts})


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said: dict[str, Any] = {
            "time": f"{stamp}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        said |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[0]:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def to_stderr(level: str) -> None:
    """Let the service log this way from `level` on; uvicorn, which says less at "info"; and whatever else warns."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    logging.captureWarnings(True)
    logging.getLogger().handlers = [handler]  # asyncio and parsers of what comes in: a client may make them talk
    for quiet in ("python_multipart", "multipart"):
        logging.getLogger(quiet).setLevel("ERROR")
    for name in ("realsrt.server", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler] if name != "uvicorn.error" else [], name == "uvicorn.error"
        logger.setLevel(level.upper() if name == "realsrt.server" or level != "info" else "WARNING")
