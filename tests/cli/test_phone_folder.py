"""A phone's folder through one command: every result opens, upright, in the right colours."""

import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from realsrt.cli import main
from realsrt.inference import upscaler
from realsrt.io import image as imageio
from realsrt.io.formats import heif_library
from realsrt.io.metadata import colour
from realsrt.io.suffixes import jxl_library
from support.decoded import opened
from support.fakes import Quadrupled
from support.phones import GAIN_MAP, MOTION, ULTRA_HDR, VIDEO, coded, packet, pixels, with_mpf

DATA = Path(__file__).parents[1] / "data"
P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def fill(folder: Path) -> dict[str, np.ndarray]:
    """The files, and what each looks like on a screen of sRGB, HW3 from 0 to 255."""
    folder.mkdir()
    plain = pixels()
    panorama = packet('GPano:FullPanoWidthPixels="40" GPano:CroppedAreaImageWidthPixels="40"')
    (folder / "PXL_1.jpg").write_bytes(with_mpf(coded(ULTRA_HDR), GAIN_MAP))
    (folder / "PXL_2.MP.jpg").write_bytes(coded(MOTION) + VIDEO)
    (folder / "PANO_3.jpg").write_bytes(coded(panorama))
    looks = dict.fromkeys(("PXL_1.jpg", "PXL_2.MP.jpg", "PANO_3.jpg"), plain)
    Image.fromarray(np.dstack([plain, np.full(plain.shape[:2], 255, np.uint8)])).save(folder / "Screenshot_4.png")
    looks["Screenshot_4.png"] = plain
    turned = Image.Exif()
    turned[0x0112] = 6
    wide = colour.profile(P3, SRGB_CURVE, "Display P3")
    side = Image.fromarray(np.ascontiguousarray(np.rot90(plain)))
    side.save(folder / "IMG_5.JPG", quality=95, subsampling=0, exif=turned, icc_profile=wide)
    screen, own = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(wide))
    looks["IMG_5.JPG"] = np.asarray(ImageCms.profileToProfile(Image.fromarray(plain), own, screen))
    if heif_library():
        for bits in (8, 10):
            shutil.copy(DATA / f"turned{bits}.heic", folder / f"IMG_{bits}.HEIC")
            shown = np.full((48, 32, 3), 90, np.uint8)
            shown[:24, :16] = (250, 10, 10)
            looks[f"IMG_{bits}.HEIC"] = shown
    return looks


@pytest.mark.parametrize("ext", ["auto", "jpg", "png", "webp", "tif", "avif", "jxl"])
def test_a_phones_folder(monkeypatch, tmp_path, capsys, ext):
    if ext == "jxl" and not jxl_library():
        pytest.skip("JPEG XL needs the extra jxl (imagecodecs)")
    monkeypatch.setattr(upscaler, "Upscaler", Quadrupled)
    looks = fill(tmp_path / "in")
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--ext", ext]) == 0
    told = capsys.readouterr().err
    assert "PXL_1.jpg: its gain map (HDR) is left out" in told
    assert "PXL_2.MP.jpg: the video of this motion photo is left out" in told
    assert "panorama in its XMP are multiplied" in told
    assert furthest(tmp_path / "out", looks) < 4  # JPEG and AVIF of a small picture, coded twice


def test_a_jpeg_xl_without_its_library_fails_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(upscaler, "Upscaler", Quadrupled)
    monkeypatch.setattr("realsrt.io.suffixes.jxl_library", lambda: False)
    monkeypatch.setattr("realsrt.io.opening.jxl_library", lambda: False)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jxl").write_bytes(b"\xff\x0a" + bytes(60))
    (tmp_path / "in" / "b.jpg").write_bytes(coded())
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    assert "needs the extra jxl" in capsys.readouterr().err
    assert (tmp_path / "out" / "b.jpg").exists()


@pytest.mark.slow
def test_a_phones_folder_by_the_real_command(tmp_path):
    """The model restores what it is given, so these come out a little further off."""
    looks = fill(tmp_path / "in")
    command = [
        sys.executable,
        "-m",
        "realsrt",
        "upscale",
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
        "--steps",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "its gain map (HDR) is left out" in done.stderr
    assert furthest(tmp_path / "out", looks) < 8


def furthest(folder: Path, looks: dict[str, np.ndarray]) -> float:
    """How far the results, shrunk again, are from what they should look like: the greatest mean, in levels."""
    made = [path for path in folder.iterdir() if not path.name.startswith(".")]
    assert len(made) == len(looks)
    off = []
    for name, wanted in looks.items():
        path = next(path for path in made if path.stem == Path(name).stem)
        image = opened(path)
        assert image.getexif().get(0x0112, 1) == 1
        profile = imageio.read(path).icc if path.suffix == ".jxl" else image.info.get("icc_profile")
        image = image.convert("RGB").reduce(4)
        if profile:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            image = ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"))
        assert image is not None
        assert image.size == wanted.shape[1::-1], name
        off.append(float(np.abs(np.asarray(image, float) - wanted).mean()))
    return max(off)
