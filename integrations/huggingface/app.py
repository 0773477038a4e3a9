"""RealSRT's page as a Space: `realsrt serve --page`, by the name and behind the proxy that the hub gives it."""

import os
import sys
from collections.abc import Mapping

HUB = "https://huggingface.co"  # whose page of a Space shows it in a frame


def arguments(environment: Mapping[str, str]) -> list[str]:
    """What `realsrt` is given. SPACE_HOST is set by the hub: the name by which browsers ask."""
    name = environment.get("SPACE_HOST", "")
    return [
        "serve", "--page", "--host", "0.0.0.0", "--port", environment.get("PORT", "7860"),
        "--data", environment.get("DATA", "/tmp/realsrt"), "--model-name", environment.get("MODEL", "small"),
        "--frame-origin", HUB, *(["--host-name", name] if name else []),
        "--keep", "1", "--max-pixels", "1000000", "--max-bytes", "20000000", "--max-seconds", "1800",
        "--max-queue", "20", "--visitor-jobs", "20",
    ]  # fmt: skip


if __name__ == "__main__":
    os.environ["FORWARDED_ALLOW_IPS"] = "*"  # only the hub's proxy reaches it: it says who asks, and by https
    os.execv(sys.executable, [sys.executable, "-m", "realsrt", *arguments(os.environ)])
