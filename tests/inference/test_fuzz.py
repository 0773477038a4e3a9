"""Mutated picture files, read (and, where that works, written again) in processes of their own.

What may happen to a file: it is read, or refused with one line. What may not: a crash, 10 seconds, more than 700 MB,
an output that is not whole.
"""

import multiprocessing
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, PngImagePlugin

from realsrt.errors import ImageError
from realsrt.io import image as imageio
from realsrt.io.formats import heif_library
from realsrt.io.metadata.provenance import Provenance
from realsrt.io.picture import Picture
from realsrt.io.suffixes import jxl_library

FILES, SECONDS, MEGABYTES = 2000, 10, 700
MAX_PIXELS = 4_000_000
MAGIC = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


def seeds(folder: Path) -> list[Path]:
    """One small file of every format and kind that this installation reads, with metadata."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:56]
    colour = np.stack([4 * x, 6 * y, x + y, 255 - x], axis=2).astype(np.uint8)
    colour[:8] = rng.integers(0, 255, colour[:8].shape)
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    xmp = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description r:about=""/></r:RDF>'
    wide = (colour.astype(np.uint16) << 8) + 7
    kinds = {
        "png": [colour, colour[..., :1], wide], "jpg": [colour[..., :3], colour[..., :1]],
        "webp": [colour, colour[..., :3]], "gif": [colour[..., :3]], "avif": [colour[..., :3], wide[..., :3]],
        "tif": [colour, wide[..., :2], colour[..., :3].astype(np.float32) / 255],
    }  # fmt: skip
    found = []
    for suffix, arrays in kinds.items():
        for number, array in enumerate(arrays):
            image = pyvips.Image.new_from_array(np.ascontiguousarray(array))
            image = (
                image.copy(interpretation="srgb").icc_transform("p3", input_profile="srgb") if number == 0 else image
            )
            image = image.copy()
            image.set_type(pyvips.GValue.blob_type, "exif-data", exif.tobytes())
            image.set_type(pyvips.GValue.blob_type, "xmp-data", xmp)
            found.append(folder / f"seed{number}.{suffix}")
            more = {"compression": ("none", "lzw", "jpeg")[number % 2]} if suffix == "tif" else {}
            image.write_to_file(str(found[-1]), **more)
    Image.fromarray(colour).save(
        folder / "frames.png", save_all=True, append_images=[Image.fromarray(colour[::-1].copy())]
    )
    Image.fromarray(colour[..., :3]).quantize(16).save(folder / "palette.png")
    Image.fromarray(colour[..., :3]).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(colour[..., :3]).save(folder / "steps.jpg", progressive=True)
    rich(Image.fromarray(colour[..., :3]), folder)
    return sorted({*found, *folder.iterdir()})


def rich(image: Image.Image, folder: Path) -> None:
    """Files of many things beside their pixels: EXIF with directories, packed text, XMP, ICC, colour, more pictures."""
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = "A picture" * 20, "Somebody"
    exif.get_ifd(0x8769).update({0x9286: b"UNICODE\0" + "prompt".encode("utf-16-be"), 0xA002: 56, 0x9214: (5, 6, 7, 8)})
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 30.0)})
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a tree" * 500, zip=True)
    text.add_itxt("Title", "grün" * 100, zip=True)
    text.add_itxt("XML:com.adobe.xmp", RICH_XMP.decode(), zip=True)
    text.add(b"cICP", bytes([9, 16, 0, 1]))
    text.add(b"gAMA", struct.pack(">I", 60_000))
    text.add(b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    more = {"exif": exif.tobytes(), "icc_profile": profile}
    image.save(folder / "rich.png", pnginfo=text, exif=more["exif"])
    image.save(folder / "rich.tif", **more, tiffinfo={700: RICH_XMP, 33723: b"\x1c\x02\x69\0\x08Headline"})
    image.save(folder / "rich.webp", **more, xmp=RICH_XMP)
    image.save(folder / "rich.avif", exif=more["exif"], xmp=RICH_XMP)
    image.save(folder / "rich.jpg", **more, xmp=RICH_XMP)
    image.save(folder / "several.mpo", save_all=True, append_images=[image.resize((20, 20))], **more, xmp=RICH_XMP)
    (folder / "several.mpo").rename(folder / "several.jpg")
    if jxl_library():
        seen = imageio.read(folder / "rich.tif")
        imageio.write(folder / "rich.jxl", seen)
        imageio.write(folder / "deep.jxl", Picture(seen.pixels.astype(np.uint16) * 257, seen.metadata), quality=100)
    for heic in (Path(__file__).parents[1] / "data").glob("*.heic") if heif_library() else ():
        (folder / heic.name).write_bytes(heic.read_bytes())


RICH_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description '
    b'r:about="" xmlns:G="http://ns.google.com/photos/1.0/camera/" xmlns:P="http://ns.google.com/photos/1.0/panorama/" '
    b'xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:m="http://www.metadataworkinggroup.com/schemas/regions/" '
    b'xmlns:a="http://ns.adobe.com/xmp/sType/Area#" xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#" '
    b'G:MotionPhoto="1" h:Version="1.0" P:FullPanoWidthPixels="400"><P:CroppedAreaTopPixels>3</P:CroppedAreaTopPixels>'
    b'<m:Regions r:parseType="Resource"><m:AppliedToDimensions d:w="56" d:h="40"/><m:RegionList><r:Bag><r:li>'
    b'<r:Description><m:Area a:x="0.5" a:y="0.5" a:w="0.1" a:h="0.2"/></r:Description></r:li></r:Bag></m:RegionList>'
    b"</m:Regions></r:Description></r:RDF></x:xmpmeta>"
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bits turned, numbers of interest put in, blocks moved, doubled, cut; mostly near the beginning, where the
    structure is."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        if not out:
            break
        place = int(len(out) * rng.random() ** rng.choice([1, 3]))
        how = rng.randrange(6)
        if how == 0:
            out[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            out[place] = rng.randrange(256)
        elif how == 2:
            width = rng.choice([1, 2, 4])
            value = rng.choice(MAGIC) & (256**width - 1)
            out[place : place + width] = value.to_bytes(width, rng.choice(["big", "little"]))
        elif how == 3:
            length = rng.randrange(1, 64)
            out[place:place] = out[rng.randrange(len(out)) :][:length]
        elif how == 4:
            del out[place : place + rng.randrange(1, 64)]
        else:
            del out[rng.randrange(max(1, len(out) // 4), len(out) + 1) :]
    return bytes(out)


def peak() -> float:
    """The most memory this process has held, in MB; getrusage would count its parent's from before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def serve(pipe: Connection, folder: Path) -> None:
    """Read what is named, write it again, and say how it went, until there are no more names."""
    pipe.send("ready")
    while (path := pipe.recv()) is not None:
        try:
            picture = imageio.read(path, max_pixels=MAX_PIXELS)
            picture.rgb_float()
            target = folder / path.name
            outcome = "read"
            if path.suffix not in (".gif", ".heic") and not (path.suffix == ".jpg" and picture.has_alpha):
                try:
                    imageio.write(target, picture, provenance=Provenance("fuzz", "{}"))
                    again = imageio.read(target)
                    assert again.pixels.shape == picture.pixels.shape, "the written file is another"
                    outcome = "written"
                except ImageError as error:
                    assert not target.exists(), "a partial output"
                    outcome = f"not written: {str(error)[-200:]}"
        except ImageError as error:
            outcome = "refused" if "\n" not in str(error) else f"several lines: {error}"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        pipe.send((outcome, peak()))


class Worker:
    """A process that is started again when it dies."""

    def __init__(self, folder: Path, target: Callable[[Connection, Path], None] = serve) -> None:
        self._folder, self._target = folder, target
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=self._target, args=(other, self._folder), daemon=True)
        self._process.start()
        other.close()
        assert self._pipe.poll(100)
        assert self._pipe.recv() == "ready"

    def ask(self, path: Path, seconds: float = SECONDS) -> tuple[str, float]:
        """(outcome, the process's greatest memory so far in MB)"""
        self._pipe.send(path)
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
            outcome = "hung"
        except (EOFError, ConnectionError):
            self._process.join()
            outcome = f"crashed: {self._process.exitcode}"
        self._process.kill()
        self._start()
        return outcome, 0.0

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join(10)


def run(folder: Path, count: int, seed: int) -> tuple[Counter[str], list[str], float, float]:
    """`count` mutated files: outcomes counted, the bad ones told, the most memory in MB, the longest time in s."""
    rng = random.Random(seed)
    originals = [(path, path.read_bytes()) for path in seeds(folder)]
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    worker = Worker(folder / "out")
    whole = {path.name: worker.ask(path)[0] for path, _ in originals}
    assert set(whole.values()) <= {"read", "written"}, whole
    outcomes, bad, most, longest = Counter(), [], 0.0, 0.0
    for number in range(count):
        original, data = originals[number % len(originals)]
        path = folder / "in" / f"{number}{original.suffix}"
        path.write_bytes(mutated(data, rng))
        started = time.monotonic()
        outcome, memory = worker.ask(path)
        most, longest = max(most, memory), max(longest, time.monotonic() - started)
        outcomes[outcome.split(":")[0]] += 1
        if outcome in ("read", "written", "refused"):
            path.unlink()
        else:
            bad.append(f"{path.name} of {original.name}: {outcome}")
    worker.stop()
    bad += [f"left behind: {path.name}" for path in (folder / "out").iterdir() if path.name.startswith(".")]
    return outcomes, bad, most, longest


def test_mutations_differ_and_are_the_same_every_time():
    data = bytes(range(256)) * 4
    once, again = ([mutated(data, rng) for _ in range(50)] for rng in (random.Random(1), random.Random(1)))
    assert once == again
    assert len(set(once)) > 45


def die(pipe: Connection, folder: Path) -> None:
    pipe.send("ready")
    while (path := pipe.recv()) is not None:
        if path.name == "crash":
            os.abort()
        if path.name == "hang":
            time.sleep(60)
        pipe.send(("read", 1.0))


@pytest.mark.slow
def test_the_harness_sees_crashes_and_hangs(tmp_path):
    worker = Worker(tmp_path, die)
    assert worker.ask(Path("good"))[0] == "read"
    assert worker.ask(Path("crash"))[0].startswith("crashed: -")
    assert worker.ask(Path("good"))[0] == "read"
    assert worker.ask(Path("hang"), 1)[0] == "hung"
    assert worker.ask(Path("good"))[0] == "read"
    worker.stop()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux' /proc")
@pytest.mark.timeout(900)
def test_two_thousand_mutated_files(tmp_path):
    outcomes, bad, most, longest = run(tmp_path, FILES, seed=int(os.environ.get("REALSRT_FUZZ_SEED", "0")))
    print(dict(outcomes), f"at most {most:.0f} MB and {longest:.1f} s")
    assert not bad, "\n".join(bad)
    assert most < MEGABYTES
    assert outcomes["refused"] > FILES // 10
    assert outcomes["written"] > FILES // 10
