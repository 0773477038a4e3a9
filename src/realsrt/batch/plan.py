"""Planning a batch of pictures: which file becomes which. No pixels here."""

import glob
import hashlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from realsrt.errors import UsageError, why
from realsrt.io.files import file_sha256
from realsrt.io.suffixes import IMAGES, WRITABLE, PassedOver, is_image, is_kept, is_picture_name

STEP = re.compile(r"_step\d+(?=(_confidence)?\.[^.]*$)")  # in the name of an image, or of a map, after a step


@dataclass(frozen=True)
class FileJob:
    """One picture to make: read `source`, write `target`. `problem`: why it cannot be made, where that is known."""

    source: Path
    target: Path
    problem: str = ""

    def beside(self, ending: str) -> Path:
        """A companion of the target, named by its stem: beside("_confidence.png")."""
        return self.target.with_name(self.target.stem + ending)


def find_images(inputs: Sequence[str | os.PathLike[str]], *, tell: Callable[[str], None] | None = None) -> list[Path]:
    """The files, each once, that files, folders (not those inside them) and globs stand for; `tell` as in
    `plan_batch`. Raises UsageError for missing or empty inputs."""
    passed = PassedOver()
    found = list(_find([os.fspath(text) for text in inputs], Path(os.devnull), False, passed))
    if tell and passed:
        tell(str(passed))
    return list(dict.fromkeys(path for path, _, _ in found))


def plan_batch(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    suffix: str = "",
    ext: str = "auto",
    recursive: bool = False,
    companions: Sequence[str] = (),
    steps: int = 0,
    made: Mapping[str, str] = MappingProxyType({}),
    tell: Callable[[str], None] | None = None,
) -> list[FileJob]:
    """Which file becomes which: inputs are files, folders and globs; output a file (for one file) or a folder.

    `suffix` goes after the stem; `ext` "auto" keeps the input's format where it can be written, else PNG. Folders
    inside a recursive input are kept in the output. Names starting with a dot are left alone in folders. `companions`
    are the endings of files written beside each target, which must not collide either, nor those of so many
    `steps`. `made`: real paths of what earlier runs into this output wrote, and the sha256 of each; while it is as it
    was written, it is no input, unless it is the only one and named itself. `tell` is told, a line each, how many
    files are passed over for that, and how many of folders as images or videos of kinds that are not read.
    Raises UsageError, before any work, for missing or empty inputs and for targets that collide or are inputs.
    """
    means_folder = os.fspath(output).endswith(("/", os.sep))
    output = Path(output)
    ext = checked_naming(suffix, ext)
    passed = PassedOver()
    found = list(_find([os.fspath(text) for text in inputs], output, recursive, passed))
    if made and not (len(found) == 1 and found[0][1] is None):
        kept = [entry for entry in found if not _is_as_made(entry[0], made)]
        if tell and 0 < len(kept) < len(found):
            tell(f"{len(found) - len(kept)} file(s) passed over: results of an earlier run into {output}")
        found = kept
        if not found:
            raise UsageError(f"all that was found is what an earlier run wrote into {output}: name one file to go on")
    one = len(found) == 1 and found[0][1] is None
    folder_meant = means_folder or output.is_dir()
    if one and is_image(output) and not folder_meant:
        if ext != "auto" and output.suffix.lower() not in _same(ext):
            raise UsageError(f"{output} contradicts --ext {ext}; leave one of them out")
        jobs = [FileJob(found[0][0], output)]
    else:
        ending, pictured = output.suffix[1:], is_picture_name(output)
        if one and (pictured or (ending.isalpha() and len(ending) <= 5)) and not (folder_meant or output.exists()):
            raise UsageError(
                f"cannot write '.{ending}' files; use {', '.join(WRITABLE)}, or end a folder's name with /"
            )
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output} is a file, but this makes {len(found)} pictures or more; give a folder")
        if pictured and not folder_meant:
            raise UsageError(f"{output} names one file, but the input is a folder or several files; give a folder")
        jobs = [
            FileJob(source, output / (folder or Path()) / output_name(source, suffix, ext), problem)
            for source, folder, problem in found
        ]
    jobs = list(dict.fromkeys(jobs))
    files = files_of(jobs, companions, steps)
    refuse_collisions(
        {identity(job.source) for job in jobs if not job.problem},
        ((job.source, path, identity(path)) for job, path in files),
    )
    if tell and passed:
        tell(str(passed))
    return jobs


def _is_as_made(path: Path, made: Mapping[str, str]) -> bool:
    digest = made.get(os.path.realpath(path))
    try:
        return digest is not None and file_sha256(path) == digest
    except OSError:  # told when it is read
        return False


def take_shard(jobs: Sequence[FileJob], output: str | os.PathLike[str], shard: str) -> list[FileJob]:
    """The jobs of shard "i/n", i from 0 to n-1: each job is in one. Which one follows from the target's name within the
    output folder alone, so pictures that come or go move no others. Raises UsageError."""
    number, count = shard_numbers(shard)

    def place(job: FileJob) -> int:
        key = os.fsencode(Path(os.path.relpath(job.target, output)).as_posix())
        return int.from_bytes(hashlib.sha256(key).digest()[:8]) % count

    return [job for job in jobs if place(job) == number]


def shard_numbers(shard: str) -> tuple[int, int]:
    """(i, n) of "i/n". Raises UsageError."""
    first, _, second = shard.partition("/")
    if not (first.isdecimal() and second.isdecimal() and int(first) < int(second)):
        raise UsageError(f"--shard takes i/n with i from 0 to n-1, such as 0/4, not '{shard}'")
    return int(first), int(second)


def checked_naming(suffix: str, ext: str) -> str:
    """`ext` in lower case, without dot. Raises UsageError for one or a suffix that cannot be."""
    ext = ext.lower().lstrip(".")
    if ext != "auto" and ext not in WRITABLE:
        raise UsageError(f"cannot write '.{ext}' files; --ext takes auto, {', '.join(WRITABLE)}")
    if {"/", os.sep} & set(suffix):
        raise UsageError(f"the suffix '{suffix}' would leave the output folder; give a name without slashes")
    return ext


def output_name(source: Path, suffix: str, ext: str) -> str:
    """The output's file name: `suffix` after the stem; `ext` "auto" keeps a format that can be written, else PNG."""
    own = source.suffix.lower().lstrip(".")
    chosen = source.suffix if ext == "auto" and is_kept(own) else f".{'png' if ext == 'auto' else ext}"
    return source.stem + suffix + chosen


def _same(ext: str) -> tuple[str, ...]:
    """The suffixes of one format."""
    groups = (("jpg", "jpeg"), ("tif", "tiff"))
    return tuple(f".{name}" for name in next((group for group in groups if ext in group), (ext,)))


def _find(
    inputs: Sequence[str], output: Path, recursive: bool, passed: PassedOver
) -> Iterator[tuple[Path, Path | None, str]]:
    """Every input file, its folder relative to the input folder it was found in (None: named itself), what is wrong."""
    if not inputs:
        raise UsageError("no input: give files, folders or globs")
    missing = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            files = list(images_in(path, output, recursive, passed))
            if not files:
                hint = "" if recursive else " (folders inside it are read with --recursive)"
                more = f"; {passed}" if passed else ""
                raise UsageError(f"{path}: no pictures in this folder{hint}; known are {', '.join(IMAGES)}{more}")
            yield from ((file, file.parent.relative_to(path), problem) for file, problem in files)
        elif os.path.lexists(path):
            yield path, None, ""
        else:
            matches = [Path(match) for match in sorted(glob.glob(text, recursive=True)) if not os.path.isdir(match)]
            yield from ((match, Path(), "") for match in matches)
            missing += [] if matches else [text]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise UsageError(f"no such file or folder: {', '.join(missing[:5])}{more}")


def images_in(
    folder: Path, output: Path, recursive: bool, passed: PassedOver, above: frozenset[str] = frozenset()
) -> Iterator[tuple[Path, str]]:
    """Entries named like pictures, in order, with what is wrong: a folder inside that cannot be listed fails by name.

    A folder named like a picture is entered when recursive, else left to fail by name. A link to a folder it lies in
    (`above`: their real paths) is passed over; `passed` sees what is no such entry.
    """
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        problem = f"{folder}: cannot be listed: {why(error)}"
        if not above:
            raise UsageError(problem) from error
        yield folder, problem
        return
    above |= {os.path.realpath(folder)}
    for path in entries:
        if path.name.startswith("."):
            continue
        if recursive and os.path.isdir(path):
            if os.path.realpath(path) not in {*above, os.path.realpath(output)}:  # results of an earlier run: no input
                yield from images_in(path, output, recursive, passed, above)
        elif is_image(path):
            yield path, ""
        else:
            passed.see(path)


def files_of(jobs: Iterable[FileJob], companions: Sequence[str], steps: int) -> Iterator[tuple[FileJob, Path]]:
    """Every file that the jobs write: images and companions, of the result and of as many `steps` as could be meant."""
    jobs = [job for job in jobs if not job.problem]
    named = {found[0] for job in jobs for path in (job.source, job.target) if (found := STEP.search(path.name))}
    marks = ["", *(mark for number in range(1, steps + 1) if (mark := f"_step{number}") in named)]
    for job in jobs:
        yield from ((job, job.beside(mark + ending)) for mark in marks for ending in (job.target.suffix, *companions))


def refuse_collisions(inputs: Container[str], made: Iterable[tuple[object, object, str]]) -> None:
    """Raise UsageError if an input would be overwritten, or two of them would become one file. `made`: an input, a file
    that it becomes, and that file's identity."""
    before: dict[str, object] = {}
    for source, target, identity in made:
        if identity in inputs:
            raise UsageError(f"{target} is an input too and would be overwritten; use another folder or --suffix")
        if identity in before:
            raise UsageError(
                f"{before[identity]} and {source} would both become {target}; rename one or run them apart"
            )
        before[identity] = source


def identity(path: Path) -> str:
    """The same for paths that are the same file."""
    real = os.path.normcase(os.path.realpath(path))
    return unicodedata.normalize("NFC", real).casefold() if _case_blind(path.absolute().parent) else real


@lru_cache(1024)
def _case_blind(folder: Path) -> bool:
    """Whether a folder, or the next that exists above it, takes a.png and A.PNG for the same file, as they do on macOS,
    on Windows and on memory cards."""
    found = next(path for path in (folder, *folder.parents) if path.exists())
    other = found.name.swapcase()
    if other == found.name:
        return sys.platform in ("darwin", "win32")
    try:
        return found.samefile(found.with_name(other))
    except OSError:
        return False
