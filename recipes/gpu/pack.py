"""recipes/gpu.sh pack: one folder with all that a run needs beside the repository, no larger than may travel."""

import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import torch

import realsrt
from realsrt.errors import RealSRTError, UsageError
from realsrt.training.sources import Entry, entries

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("pyvips", "pyvips-binary", "cffi", "pycparser", "kornia", "cyclopts", "docstring_parser", "rich-rst")
"""What training imports and a machine made for PyTorch lacks: it has numpy, pillow, accelerate, tensorboard, rich."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
STAND_IN = '''"""In place of kornia_rs (5 MB), which kornia imports and of which nothing here is called: image files."""

io = None
'''
_ROLE = re.compile(r"(.+)\.(lq|gt|teacher)\.[^./]+$|(.*[/:])?(lq|gt|teacher)/([^/]+)\.[^./]+$")


def pack(folder: Path, data: list[Path], init: Path | None) -> None:
    """Fill a new folder. Raises UsageError where something is missing or too large."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "packing").exists():
        raise UsageError(f"{folder} is there already and is no half-made pack: remove it or name another")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "packing").touch()
    files = list(entries(data))
    photos, pairs = by_kind(files)
    for name, groups in (("photos", photos), ("pairs", pairs)):
        if groups:
            limit = os.environ.get(f"{name.upper()}_MB")
            kept = thinned(groups, float(limit) * 1e6 if limit else None)
            write_tar(folder / f"{name}.tar", kept)
            print(f"{name}: {len(kept)} of {len(groups)}, {megabytes(folder / f'{name}.tar'):.1f} MB")
    if init is not None:
        realsrt.save_model(realsrt.load_model(init), folder / "init.safetensors", dtype=torch.float16)
    check_weights(realsrt.load_model(folder / "init.safetensors" if init else shipped()))
    if init is not None:
        (folder / "init.safetensors.xz").write_bytes(lzma.compress((folder / "init.safetensors").read_bytes()))
        (folder / "init.safetensors").unlink()
    if os.environ.get("WHEELS", "1") != "0":
        fetch_wheels(folder / "wheels", os.environ.get("TARGET", "3.12"))
        (folder / "modules").mkdir()
        (folder / "modules" / "kornia_rs.py").write_text(STAND_IN)
    check_size(folder, float(os.environ.get("LIMIT_MB", "60")))
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    sizes.pop("packing")
    (folder / "contents.json").write_text(json.dumps(sizes, indent=1))
    (folder / "packing").unlink()


def shipped() -> Path:
    return REPOSITORY / "src" / "realsrt" / "weights" / "small.safetensors"


def check_weights(model: realsrt.RealSRT) -> None:
    if model.trunk is None:
        raise UsageError(f"weights of preset {model.config.preset!r} without a trunk can't be the start: name INIT")


def by_kind(files: list[Entry]) -> tuple[list[list[Entry]], list[list[Entry]]]:
    """Photographs one by one, and recorded pairs with their files together."""
    photos, pairs = [], {}
    for entry in files:
        if (match := _ROLE.match(entry.name)) is None:
            photos.append([entry])
        else:
            pairs.setdefault(match[1] or f"{match[3] or ''}{match[5]}", []).append(entry)
    return photos, list(pairs.values())


def thinned(groups: list[list[Entry]], limit: float | None) -> list[list[Entry]]:
    """As many as fit into so many bytes, from all over the list."""
    if limit is None:
        return groups
    sizes = [sum(len(entry.read()) + 1024 for entry in group) for group in groups]
    count = len(groups)
    while count:
        kept = [i * len(groups) // count for i in range(count)]
        if (total := sum(sizes[i] for i in kept)) <= limit:
            return [groups[i] for i in kept]
        count = min(count - 1, int(count * limit / total))
    raise UsageError(f"not one picture fits into {limit / 1e6:g} MB")


def write_tar(path: Path, groups: list[list[Entry]]) -> None:
    """The files of each group under one number, in what format they are."""
    with tarfile.open(path, "w") as tar:
        for number, group in enumerate(groups):
            for entry in group:
                match = _ROLE.match(entry.name)
                role = f".{match[2] or match[4]}" if match else ""
                content = entry.read()
                info = tarfile.TarInfo(f"{number:05d}{role}{Path(entry.name).suffix.lower()}")
                info.size = len(content)
                tar.addfile(info, BytesIO(content))


def fetch_wheels(folder: Path, python: str) -> None:
    """The packages at the versions of constraints.txt, for Linux on x86-64. Raises UsageError."""
    pins = dict(
        line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().split() if line.count("==") == 1
    )
    pins = {key.lower().replace("_", "-"): value for key, value in pins.items()}
    platforms = [part for name in PLATFORMS for part in ("--platform", f"{name}_x86_64")]
    foreign = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    for package in PACKAGES:
        wanted = f"{package}=={pins[package.lower().replace('_', '-')]}"
        # pyvips comes as source only; what is made of it is pure Python wherever libvips' headers are not installed
        verb = ["wheel", "-w"] if package == "pyvips" else ["download", *foreign, "-d"]
        done = subprocess.run([*pip, *verb, str(folder), "--no-deps", wanted], capture_output=True, text=True)
        if done.returncode:
            raise UsageError(f"no wheel of {wanted} for Python {python}: {done.stderr.strip().splitlines()[-1]}")
    if not list(folder.glob("pyvips-*-none-any.whl")):
        raise UsageError("pyvips was built for this machine only: pack where libvips' headers are not installed")


def check_size(folder: Path, limit: float) -> None:
    """Raises UsageError where folder and repository are larger than so many MB; says what takes how much."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, check=True,
    ).stdout.split(b"\0")  # fmt: skip
    inside = [REPOSITORY / os.fsdecode(name) for name in listed if name]
    own = sum(path.stat().st_size for path in inside if path.is_file() and folder.resolve() not in path.parents) / 1e6
    parts = {path.name: megabytes(path) for path in sorted(folder.iterdir())}
    table = ", ".join(f"{name} {size:.1f}" for name, size in parts.items() if size >= 0.05)
    total = own + sum(parts.values())
    if total > limit:
        raise UsageError(
            f"{total:.1f} MB would travel, and {limit:g} may: repository {own:.1f}, {table}. "
            f"Take fewer pictures (PHOTOS_MB, PAIRS_MB) or raise LIMIT_MB"
        )
    print(f"{folder}: {total:.1f} MB with the repository ({own:.1f}); {table}")


def megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    return sum(part.stat().st_size for part in files) / 1e6


def main() -> int:
    folder, *data = map(Path, sys.argv[1:])
    init = data.pop() if data[-1].suffix == ".safetensors" else None
    try:
        pack(folder, data, init)
    except RealSRTError as error:
        print(f"recipes/gpu.sh pack: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
