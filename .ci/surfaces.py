"""Ask each surface of the installed package, from a folder of its own: the command, Python, the service and its page.

Run by the Python of an environment that RealSRT was installed into with the extra `serve`, and nothing else.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "realsrt"]


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        os.chdir(folder)
        import realsrt

        installed = Path(realsrt.__file__).resolve()
        assert REPOSITORY / "src" not in installed.parents, f"{installed} is not an installed package"
        python(folder)
        command(folder)
        service(folder)
        os.chdir(REPOSITORY)


def python(folder: Path) -> None:
    import numpy as np

    import realsrt
    from realsrt import imageio

    imageio.write(folder / "photo.png", np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8))
    out = realsrt.Upscaler.from_pretrained("small", device="cpu").upscale(folder / "photo.png")
    assert (out.image.width, out.image.height) == (80, 96)
    print(f"Python: realsrt {realsrt.__version__} of {Path(realsrt.__file__).parent}")


def command(folder: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "upscale", "photo.png", "-o", "photo_x4.png", "--trust", "0.9"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert (said["status"], said["out_width"], said["model"]) == ("done", 80, "small"), said
    assert (folder / "photo_x4.png").stat().st_size
    assert (folder / "photo_x4_trust.png").stat().st_size
    print("command: upscale --trust")


def service(folder: Path) -> None:
    key = secrets.token_hex(16)
    server = subprocess.Popen(
        [*COMMAND, "serve", "--page", "--port", "0", "--data", str(folder / "data")], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"REALSRT_API_KEYS": key},
    )  # fmt: skip
    watchdog = threading.Timer(300, server.kill)
    watchdog.start()
    try:
        assert server.stderr
        lines = (json.loads(line) for line in server.stderr if line.startswith("{"))
        url = next(line["url"] for line in lines if "url" in line)
        threading.Thread(target=server.stderr.read, daemon=True).start()  # else it would wait for a reader
        while _status(f"{url}/readyz") != 200:
            time.sleep(0.2)
        from realsrt.server.client import Client

        assert Client(url, key).upscale("photo.png", "by_service.png").stat().st_size
        print("service: a job")
        with urllib.request.urlopen(url) as page:
            text = page.read().decode()
        for file in ("main.js", "style.css", "vendor/openseadragon.min.js"):
            assert _status(f"{url}/page/{file}") == 200, file
        assert "RealSRT" in text
        print("page: its files")
    finally:
        server.terminate()
        server.wait(60)
        watchdog.cancel()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as problem:
        return problem.code


if __name__ == "__main__":
    main()
