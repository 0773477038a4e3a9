"""Which images there are, and what each becomes: from a folder, a manifest or tars, on disk or behind a URL."""

import csv
import glob
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from realsrt.batch.plan import checked_naming, identity, images_in, output_name, refuse_collisions
from realsrt.bulk.results import RESULTS
from realsrt.bulk.store import OutputStore, is_local
from realsrt.errors import UsageError, first_line, why
from realsrt.io.files import open_fs
from realsrt.io.suffixes import PassedOver, is_image

MANIFESTS = (".csv", ".parquet")
_COLUMNS = ("path", "url", "uri")


@dataclass(frozen=True)
class Item:
    """One image: `key` names it for good, `uri` is its file, or the tar of which it is a stretch; `target` is the
    output's name in the output folder. `problem`: why it cannot be read, where that is known."""

    key: str
    uri: str
    start: int | None = None
    length: int | None = None
    target: str = ""
    problem: str = ""

    @property
    def shown(self) -> str:
        """How a person knows the file."""
        return self.uri if self.start is None else f"{self.uri}:{PurePosixPath(self.key).name}"


def plan_items(
    source: str, store: OutputStore, *, suffix: str = "", ext: str = "auto", companions: Sequence[str] = (),
    tell: Callable[[str], None] | None = None,
) -> list[Item]:  # fmt: skip
    """The images of a folder (and folders inside it), of a manifest (.csv, .parquet with a column path, url or uri,
    and, if wanted, key), or of .tar files (a name or a glob), with their targets, in order of keys. `tell` is told, in
    one line, how many others are passed over as images or videos of kinds that are not read.

    Raises UsageError, before any work, if there are none, or two would become one file, or one overwrite an input.
    """
    ext = checked_naming(suffix, ext)
    fs, path = open_fs(source)
    passed = PassedOver()
    try:
        found = list(_find(fs, path, source, store, passed))
    except (OSError, tarfile.TarError) as problem:
        text = why(problem)
        raise UsageError(f"{source}: cannot be read: {text}") from problem
    if not found:
        raise UsageError(f"{source}: no images there{f'; {passed}' if passed else ''}")
    items = [replace(item, target=_target(item.key, suffix, ext)) for item in found]
    items.sort(key=lambda item: item.key)
    _refuse_collisions(items, path if is_local(fs) else source, store, companions)
    if tell and passed:
        tell(str(passed))
    return items


def _target(key: str, suffix: str, ext: str) -> str:
    path = PurePosixPath(key)
    return path.with_name(output_name(Path(path.name), suffix, ext)).as_posix()


def _find(fs: Any, path: str, source: str, store: OutputStore, passed: PassedOver) -> Iterator[Item]:
    name = PurePosixPath(path).name.lower()
    if name.endswith((".tar.gz", ".tgz")):
        raise UsageError(f"{source}: members of a compressed tar cannot be read one by one; decompress it with gunzip")
    if name.endswith(".tar"):
        tars = sorted(fs.glob(path)) if glob.has_magic(path) else [path]
        if not tars:
            raise UsageError(f"no such file or folder: {source}")
        with ThreadPoolExecutor(8) as pool:
            for members in pool.map(lambda tar: list(_members(fs, tar)), tars):
                for name, item in members:
                    if item:
                        yield item
                    else:
                        passed.see(name)
    elif name.endswith(MANIFESTS):
        yield from _in_manifest(fs, path, source)
    elif is_local(fs):
        if not os.path.isdir(path):
            hint = "is one file; realsrt upscale takes it" if os.path.exists(path) else "no such file or folder"
            raise UsageError(f"{source}: {hint}; give a folder, a manifest (.csv, .parquet) or .tar files")
        root = Path(path).absolute()
        output = Path(store.root if store.local else os.devnull)
        for file, problem in images_in(root, output, recursive=True, passed=passed):
            yield Item(file.relative_to(root).as_posix(), str(file), problem=problem)
    else:
        own = f"{store.root}/" if not store.local and type(store.fs) is type(fs) else "\0"
        for file in fs.find(path):
            key = file[len(path) :].lstrip("/")
            hidden = any(part.startswith(".") for part in key.split("/"))
            if hidden or (file.startswith(own) and own != f"{path}/"):
                continue
            if is_image(Path(file)):
                yield Item(key, fs.unstrip_protocol(file))
            else:
                passed.see(Path(file))


def _in_manifest(fs: Any, path: str, source: str) -> Iterator[Item]:
    """Relative paths are relative to the manifest."""
    rows = _rows(fs, path, source)
    columns = [name for name in (rows[0] if rows else {}) if name.lower() in _COLUMNS]
    if not columns:
        raise UsageError(f"{source}: has no column named {', '.join(_COLUMNS)}, or no rows")
    keys = next((name for name in rows[0] if name.lower() == "key"), "")
    for number, row in enumerate(rows, 1):
        where = row[columns[0]]
        if not where:
            raise UsageError(f"{source}: row {number} has no {columns[0]}")
        full = where = open_fs(where)[1] if where.startswith(("file://", "local://")) else where
        if "://" not in where and not os.path.isabs(where):
            full = os.path.join(os.path.dirname(path), where)
        if "://" not in full:
            full = os.path.abspath(full) if is_local(fs) else fs.unstrip_protocol(full)
        key = row.get(keys) or (where if full != where else full.partition("://")[2] or full.lstrip("/"))
        key = PurePosixPath(os.path.normpath(key)).as_posix()
        if key.startswith(("../", "/")) or key in ("..", "."):
            raise UsageError(f"{source}: row {number}: the key '{key}' would leave the output folder")
        yield Item(key, full)


def _rows(fs: Any, path: str, source: str) -> list[dict[str, str | None]]:
    """The columns as they are named, all values as text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fs.open(path, "rb") as file:
            if path.lower().endswith(".csv"):
                rows = list(csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True))
                if odd := [number for number, row in enumerate(rows, 1) if None in (*row, *row.values())]:
                    raise UsageError(f"{source}: row {odd[0]} has more or fewer values than the first line has names")
                return rows
            names = [name for name in pq.read_schema(file).names if name.lower() in (*_COLUMNS, "key")]
            file.seek(0)
            table = pq.read_table(file, columns=names)
            return table.cast(pa.schema([(name, pa.large_string()) for name in table.column_names])).to_pylist()
    except (pa.ArrowException, csv.Error, UnicodeError) as problem:
        raise UsageError(f"{source}: is no manifest that can be read ({first_line(problem)})") from problem


def _members(fs: Any, tar: str) -> Iterator[tuple[PurePosixPath, Item | None]]:
    """The names of a tar's files; with those that are images, what they are."""
    uri = os.path.abspath(tar) if is_local(fs) else fs.unstrip_protocol(tar)
    stem = PurePosixPath(tar).stem
    with fs.open(tar, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
        for member in members:
            name = PurePosixPath(os.path.normpath(member.name).lstrip("/"))
            if name.name.startswith(".") or not member.isfile():
                continue
            if not is_image(name) or member.issparse():
                yield name, None
                continue
            if name.parts[0] == "..":
                raise UsageError(f"{tar}: the member '{name}' would leave the output folder")
            yield name, Item(f"{stem}/{name}", uri, member.offset_data, member.size)


def _refuse_collisions(items: list[Item], source: str, store: OutputStore, companions: Sequence[str]) -> None:
    def known(uri: str) -> str:
        return uri if "://" in uri else identity(Path(uri))

    def made(name: PurePosixPath) -> tuple[PurePosixPath, str]:
        full = store.path(name.as_posix())
        return name, identity(Path(full)) if store.local else store.fs.unstrip_protocol(full)

    good = [(item, PurePosixPath(item.target)) for item in items if not item.problem]
    refuse_collisions(
        {known(uri) for uri in (source, *(item.uri for item in items if item.start is None))},
        chain(
            [("the results", *made(PurePosixPath(RESULTS)))],
            (
                (item.shown, *made(path))
                for item, target in good
                for path in (target, *(target.with_name(target.stem + ending) for ending in companions))
            ),
        ),
    )
