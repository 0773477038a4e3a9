import io
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import pyvips
import torch
import torch.nn.functional as F
from PIL import Image

import realsrt
from realsrt.errors import ImageError, RealSRTError, UsageError
from realsrt.inference import upscaler
from realsrt.inference.options import UpscaleOptions
from realsrt.inference.runner import Runner, is_out_of_memory
from realsrt.inference.upscaler import Upscaler
from realsrt.io.metadata.colour import of_code
from realsrt.io.picture import Picture
from support.fakes import Fake, make, noise, on_gpu


@pytest.mark.parametrize("height", [1, 2, 15, 16, 17, 61])
@pytest.mark.parametrize("width", [1, 3, 16, 47])
def test_any_size(height, width):
    out = make().upscale(noise(height, width, 3))
    assert out.image.shape == (4 * height, 4 * width, 3)
    assert out.confidence is not None
    assert out.confidence.shape == (-(-height // 2), -(-width // 2))
    assert out.confidence.dtype == np.float32
    assert 0 <= out.confidence.min() <= out.confidence.max() <= 1


def test_the_picture_is_in_place():
    """Away from windows' borders, blending bicubic windows gives the bicubic picture."""
    lq = F.interpolate(torch.from_numpy(noise(1, 3, 10, 12)), (61, 75), mode="bicubic").clamp(0.1, 0.9)
    up = make(window=32, stride=16)
    out = up.upscale(lq, steps=1).image
    expected = F.interpolate(lq, scale_factor=4, mode="bicubic")
    assert (out - expected).abs()[:, :, 8:-8, 8:-8].max() < 0.02
    assert (out - expected).abs().mean() < 1e-3


@pytest.mark.parametrize("flip", [(0,), (1,), (0, 1)])
def test_flips_commute_where_the_border_is_even(flip):
    picture = noise(20, 28, 3)
    up = make(window=16, stride=8)
    out, flipped = up.upscale(picture), up.upscale(np.flip(picture, flip))
    np.testing.assert_allclose(np.flip(out.image, flip), flipped.image, atol=1e-5)
    np.testing.assert_allclose(np.flip(out.confidence, flip), flipped.confidence, atol=1e-5)


@pytest.mark.parametrize("color_fix", ["none", "adain", "wavelet", "coarse"])
def test_a_constant_picture_stays_constant(color_fix):
    picture = np.full((37, 50, 3), (10, 128, 250), np.uint8)
    out = make().upscale(picture, steps=1, color_fix=color_fix).image
    assert (out == np.array([10, 128, 250])).all()


def test_colour_fixes_take_a_cast_away():
    class Cast(Fake):
        def decode(self, ids, guide, *, fidelity):
            return super().decode(ids, guide, fidelity=0) * 0.5 + torch.tensor([0.3, 0.0, 0.1])[:, None, None]

    picture = noise(30, 30, 3) * 0.5 + 0.25
    means = {}
    for color_fix in ("none", "adain", "wavelet", "coarse"):
        means[color_fix] = Upscaler(Cast()).upscale(picture, color_fix=color_fix).image.mean((0, 1)) - picture.mean(
            (0, 1)
        )
    assert np.abs(means["none"]).max() > 0.05
    assert np.abs(means["adain"]).max() < 0.01
    assert np.abs(means["wavelet"]).max() < 0.01
    assert np.abs(means["coarse"]).max() < 0.01


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64, ">u2"])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_arrays_come_back_as_they_went_in(dtype, channels):
    array = noise(9, 11, *([channels] if channels else []))
    peak = {1: 255, 2: 65535}[np.dtype(dtype).itemsize] if np.dtype(dtype).kind == "u" else 1
    array = (array * peak).astype(dtype)
    before = array.copy()
    out = make().upscale(array).image
    assert isinstance(out, np.ndarray)
    assert out.dtype == array.dtype
    assert out.shape == (36, 44, *array.shape[2:])
    assert out.max() > 0.5 * peak
    assert np.array_equal(array, before)


@pytest.mark.parametrize("tensor", [False, True])
def test_a_result_does_not_follow_what_becomes_of_the_array(tensor):
    up, outs = Upscaler(realsrt.presets.build("tiny", 5)), []
    for change in (False, True):
        image = (noise(20, 20, 1) * 255).astype(np.uint8)
        image = torch.from_numpy(image.reshape(1, 1, 20, 20)) if tensor else image
        before = up.upscale(image)
        if change:
            image[:] = 0
        outs.append(np.asarray(up.regenerate(before, (20, 20, 70, 60), seed=1).image))
    assert np.array_equal(*outs)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_pil_comes_back_as_pil(mode):
    if mode == "I;16":
        image = Image.fromarray((noise(9, 11) * 65535).astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray(noise(9, 11))
    else:
        image = Image.fromarray((noise(9, 11, 3) * 255).astype(np.uint8)).convert(mode)
    image.info["icc_profile"] = b"profile"
    out = make().upscale(image).image
    assert isinstance(out, Image.Image)
    assert out.size == (44, 36)
    assert out.mode == {"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode)
    assert (out.info["icc_profile"] == b"profile") == (mode != "CMYK")  # whose profile would be of another space


@pytest.mark.parametrize("profile", ["its own", "none", "of RGB", "damaged"])
def test_a_cmyk_pil_image_becomes_what_its_file_does(tmp_path, profile):
    inks = pyvips.Image.new_from_array((noise(9, 11, 3) * 255).astype(np.uint8)).copy(interpretation="srgb")
    inks = inks.icc_transform("cmyk", input_profile="srgb")
    icc = {"its own": inks.get("icc-profile-data"), "of RGB": of_code(12, 13).icc, "damaged": b"profile" * 30}
    inks.write_to_file(str(tmp_path / "a.tif"), keep="icc" if profile == "its own" else "none")
    with Image.open(tmp_path / "a.tif") as image:
        if profile in icc:
            image.info["icc_profile"] = icc[profile]
        out = make().upscale(image).image
    wanted = make().upscale(tmp_path / "a.tif").image
    assert np.array_equal(np.asarray(out), wanted.pixels)
    assert np.ptp(wanted.pixels) > 100
    assert ("icc_profile" in out.info) == (profile != "none")
    if profile == "its own":
        assert out.info["icc_profile"] == wanted.icc != icc[profile]


def test_a_lab_pil_image_leaves_its_profile():
    image = Image.new("LAB", (11, 9), (180, 128, 128))
    image.info["icc_profile"] = b"profile"
    out = make().upscale(image).image
    assert out.mode == "RGB"
    assert "icc_profile" not in out.info


def test_pil_transparent_palette_and_orientation():
    palette = Image.fromarray((noise(9, 11) * 255).astype(np.uint8)).convert("P")
    palette.info["transparency"] = 0
    assert make().upscale(palette).image.mode == "RGBA"
    turned = Image.fromarray((noise(9, 11, 3) * 255).astype(np.uint8))
    turned.getexif()[0x0112] = 6
    assert make().upscale(turned).image.size == (36, 44)


@pytest.mark.parametrize(
    ("channels", "dtype"),
    [(1, torch.float32), (3, torch.float16), (3, torch.bfloat16), (4, torch.float64), (3, torch.uint8)],
)
def test_tensors_come_back_as_they_went_in(channels, dtype):
    scale = 255 if dtype == torch.uint8 else 1
    batch = (torch.from_numpy(noise(2, channels, 9, 11)) * scale).to(dtype)
    out = make().upscale(batch)
    assert out.image.shape == (2, channels, 36, 44)
    assert out.image.dtype == dtype
    assert out.image.is_contiguous()
    assert out.confidence is not None
    assert out.confidence.shape == (2, 5, 6)
    assert out.ids.shape == (2, 1, 8, 8)
    for index in range(2):
        alone = make().upscale(batch[index : index + 1])
        assert torch.equal(alone.image[0], out.image[index])


def test_a_path_comes_back_as_a_picture(tmp_path):
    imageio = pytest.importorskip("realsrt.imageio")
    array = (noise(9, 11, 4) * 255).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    out = make().upscale(tmp_path / "a.png").image
    assert isinstance(out, imageio.Picture)
    assert np.array_equal(out.pixels, make().upscale(array).image)
    with pytest.raises(ImageError):
        make().upscale(tmp_path / "missing.png")


def test_gray_stays_gray():
    gray = (noise(20, 20) * 255).astype(np.uint8)
    out = make().upscale(gray).image
    colour = make().upscale(np.dstack([gray] * 3)).image
    assert np.array_equal(np.dstack([out] * 3), colour)


@pytest.mark.parametrize("exif", [b"junk", b"Exif\0\0MM\0*"])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_pil_image_whose_exif_is_none_is_taken_upright(exif, format):
    file = io.BytesIO()
    Image.new("RGB", (12, 9), (200, 30, 40)).save(file, format, exif=exif)
    assert make().upscale(Image.open(file)).image.size == (48, 36)


def test_what_cannot_be_decoded_or_has_no_numbers_is_refused_in_one_line():
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    cut = Image.open(io.BytesIO(file.getvalue()[:900]))
    zeros = torch.zeros(1, 3, 8, 8)
    for image in (cut, zeros.to_sparse(), zeros.to("meta"), "a\0b.png", "\ud800.png"):
        with pytest.raises(ImageError) as caught:
            make().upscale(image)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="quality goes from 1 to 100, got 'high'"):
        make().upscale(noise(8, 8, 3)).save("a.jpg", quality="high")  # pyright: ignore[reportArgumentType]


def test_a_view_of_the_negative_is_taken_for_what_it_is():
    complex_numbers = torch.complex(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), -0.5))
    view = complex_numbers.conj().imag
    assert view.is_neg()
    assert torch.equal(make().upscale(view).image, make().upscale(torch.full((1, 3, 8, 8), 0.5)).image)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_what_is_gray_in_colour_comes_out_gray(kind, steps):
    """As the gray image does; one pixel of colour, and it is a coloured image."""
    up = Upscaler(realsrt.presets.build("tiny", 5))
    peak = 1 if kind is np.float32 else np.iinfo(kind).max
    gray = (noise(70, 30, 1) * peak).astype(kind)
    alpha = (noise(70, 30, 1, seed=1) * peak).astype(kind)
    colour = np.dstack([gray] * 3)
    out = up.upscale(colour, steps=steps).image
    assert np.array_equal(out, np.dstack([up.upscale(gray, steps=steps).image] * 3))
    clear = up.upscale(np.dstack([colour, alpha]), steps=steps).image
    assert np.ptp(clear[:, :, :3], axis=2).max() == 0
    picture, rows = Picture.from_array(colour), []
    up.upscale(picture, steps=steps, rows=lambda _, planes: rows.append(planes.rgb))
    assert float(torch.cat(rows, 1).std(0).max()) == 0
    colour[40, 15] = 0, peak, 0
    assert np.ptp(up.upscale(colour, steps=steps).image.astype(float), axis=2).max() > peak / 10


def test_a_gray_result_stays_gray_where_it_is_regenerated():
    up = Upscaler(realsrt.presets.build("tiny", 5))
    before = up.upscale(np.dstack([(noise(30, 30, 1) * 255).astype(np.uint8)] * 3))
    after = up.regenerate(before, (20, 20, 70, 60), seed=1).image
    assert (after != before.image).any()
    assert np.ptp(after, axis=2).max() == 0


def test_alpha_is_kept_and_invisible_colour_does_not_bleed():
    alpha = np.ones((30, 40, 1), np.float32)
    alpha[:, 20:] = 0
    red = np.broadcast_to(np.array([0.8, 0.1, 0.1], np.float32), (30, 40, 3))
    results = []
    for hidden in (noise(30, 40, 3), np.zeros((30, 40, 3), np.float32)):
        results.append(make().upscale(np.dstack([np.where(alpha > 0, red, hidden), alpha]), steps=1).image)
    assert np.array_equal(*results)
    np.testing.assert_allclose(results[0][:, :, :3], np.broadcast_to(red[0, 0], (120, 160, 3)), atol=1e-5)
    assert (results[0][:, :76, 3] > 0.99).all()
    assert (results[0][:, 84:, 3] < 0.01).all()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.zeros((4, 4, 5), np.uint8), "1 to 4 channels"),
        (np.zeros((4, 4), np.int32), "int32"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.full((4, 4, 3), np.nan), "not finite"),
        (np.full((4, 4, 3), 200.0), "from 0 to 1"),
        (Picture(np.full((4, 4, 3), 200.0, np.float32)), "from 0 to 1"),
        (torch.full((1, 3, 4, 4), float("inf")), "not finite"),
        (Image.new("I", (0, 4)), "empty"),
        (Image.new("CMYK", (4, 0)), "empty"),
        (torch.zeros(3, 4, 4), "tensor of shape"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.int64), "int64"),
        ([1, 2], "list"),
    ],
)
def test_what_is_no_picture_is_refused(bad, words):
    with pytest.raises(ImageError, match=words):
        make().upscale(bad)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"stride": 0},
        {"stride": 7},
        {"stride": 18},
        {"tile": 15},
        {"tile": 8},
        {"fidelity": 1.5},
        {"fidelity": float("nan")},
        {"color_fix": "magic"},
        {"outscale": 0},
        {"outscale": float("inf")},
        {"size": (0, 5)},
        {"max_minibatch": 0},
        {"tile": 16.0},
        {"stride": 8.5},
        {"stride": "8"},
        {"seed": 1.5},
        {"max_minibatch": 2.0},
        {"size": (100.5, 50)},
        {"size": (100,)},
        {"size": 100},
        {"outscale": None},
        {"outscale": "large"},
        {"fidelity": [1]},
        {"confidence_exit": "sure"},
    ],
)
def test_impossible_options_are_refused_before_work(options):
    up = make()
    for call in (up.upscale, up.stream):
        with pytest.raises(UsageError):
            call(noise(8, 8, 3), **options)
    assert not up.model.batches


def test_options_are_the_same_however_they_are_written():
    numbers = UpscaleOptions(tile=np.int64(16), stride=np.uint8(8), size=[np.int32(30), 20], confidence_exit=1, steps=1)
    plain = UpscaleOptions(tile=16, stride=8, size=(30, 20), confidence_exit=1.0, steps=1)
    assert json.dumps(numbers.pixel_options()) == json.dumps(plain.pixel_options())
    assert make().upscale(noise(8, 8, 3), numbers).image.shape == (20, 30, 3)


def test_a_model_with_a_table_of_positions_has_one_tile_size():
    up = make(generator=SimpleNamespace(position="sincos"))
    with pytest.raises(UsageError, match="tile must be 16"):
        up.upscale(noise(8, 8, 3), tile=32)
    assert make().upscale(noise(48, 48, 3), tile=32).ids.shape == (4, 16, 16)


@pytest.mark.parametrize(("device", "precision"), [("toaster", "auto"), ("cuda:99", "auto"), ("cpu", "fp12")])
def test_unknown_devices_and_precisions(device, precision):
    with pytest.raises(UsageError):
        make(device, precision)


@pytest.mark.parametrize(
    ("options", "width", "height"),
    [
        ({"outscale": 1}, 17, 30),
        ({"outscale": 2.5}, 42, 75),
        ({"outscale": 0.01}, 1, 1),
        ({"size": (7, 99)}, 7, 99),
        ({"outscale": 6}, 102, 180),
    ],
)
def test_other_sizes(options, width, height):
    out = make().upscale(np.full((30, 17, 3), 0.5, np.float32), steps=1, **options)
    assert out.image.shape == (height, width, 3)
    assert out.confidence is not None
    assert out.confidence.shape == (-(-height // 8), -(-width // 8))
    np.testing.assert_allclose(out.image, 0.5, atol=1e-5)


def test_without_confidence():
    out = make().upscale(noise(9, 9, 3), confidence=False, keep_steps=True)
    assert all(step.confidence is None for step in (out, *out.steps))


@pytest.mark.parametrize("color_fix", ["none", "adain", "wavelet", "coarse"])
def test_the_last_of_a_stream_is_the_result(color_fix):
    picture = (noise(30, 41, 4) * 255).astype(np.uint8)
    options = {"color_fix": color_fix, "seed": 3, "outscale": 3}
    out = make().upscale(picture, keep_steps=True, **options)
    streamed = list(make().stream(picture, **options))
    assert [s.step for s in streamed] == [s.step for s in out.steps] == [1, 2, 3]
    assert streamed[-1].image.tobytes() == out.image.tobytes() == make().upscale(picture, **options).image.tobytes()
    for ours, theirs in zip(streamed, out.steps, strict=True):
        assert np.array_equal(ours.image, theirs.image)
        assert np.array_equal(ours.confidence, theirs.confidence)
        assert np.array_equal(ours.ids, theirs.ids)
    if color_fix == "none":
        assert all(a.image.astype(int).sum() < b.image.astype(int).sum() for a, b in itertools.pairwise(streamed))


def test_streaming_leaves_gradients_as_they_were():
    for _ in make().stream(noise(20, 20, 3)):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("method", ["upscale", "stream"])
def test_progress_counts_windows_times_steps(method):
    seen = []
    up = on_gpu(make())
    result = getattr(up, method)(
        noise(24, 24, 3), max_minibatch=3, on_progress=lambda done, total: seen.append((done, total))
    )
    if method == "stream":
        list(result)
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_on_the_cpu_windows_run_one_by_one():
    up = make()
    outs = [up.upscale(noise(40, 40, 3), max_minibatch=size).image.tobytes() for size in (None, 1, 7)]
    assert set(up.model.batches) == {1}
    assert len(set(outs)) == 1


def test_elsewhere_in_batches():
    up = on_gpu(make())
    picture = noise(40, 40, 3)
    out = up.upscale(picture, max_minibatch=7)
    assert up.model.batches == [7, 7, 2]
    np.testing.assert_allclose(out.image, make().upscale(picture).image, atol=1e-6)


def test_a_seed_changes_nothing():
    up = Upscaler(realsrt.presets.build("tiny", 5))
    images = [up.upscale(noise(20, 20, 3), seed=seed).image for seed in (None, 1, -6)]
    assert all(np.array_equal(images[0], image) for image in images[1:])


class OutOfMemory(Fake):
    """More than `room` windows at once do not fit; says so while doing `where`."""

    def __init__(self, room, where, **config):
        super().__init__(**config)
        self.room, self.where, self.calls = room, where, []

    def check(self, where, count):
        self.calls.append((where, count))
        if where == self.where and count > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def guide(self, lq):
        self.check("guide", len(lq))
        return super().guide(lq)

    def iterate(self, guide, **options):
        for number, step in enumerate(super().iterate(guide, **options)):
            self.check(f"step {number}", len(guide))
            yield step

    def decode(self, ids, guide, *, fidelity):
        self.check("decode", len(ids))
        # every row by itself, so that batching cannot matter
        return torch.cat(
            [
                super(OutOfMemory, self).decode(i[None], g[None], fidelity=fidelity)
                for i, g in zip(ids, guide, strict=True)
            ]
        )


@pytest.mark.parametrize("where", ["guide", "step 0", "step 2", "decode"])
@pytest.mark.parametrize("method", ["upscale", "stream"])
@pytest.mark.parametrize("room", [1, 3])
def test_out_of_memory_halves_the_batch(where, method, room):
    picture = noise(40, 40, 3)
    expected = make().upscale(picture)
    up = on_gpu(Upscaler(OutOfMemory(room, where), "cpu", "fp32"))
    seen = []
    result = getattr(up, method)(picture, on_progress=lambda done, total: seen.append(done))
    out = list(result)[-1] if method == "stream" else result
    np.testing.assert_allclose(out.image, expected.image, atol=1e-6)
    assert np.array_equal(out.ids, expected.ids)
    assert seen[-1] == 48
    assert seen == sorted(seen)
    assert up._runner.batch_size() <= room


def test_a_single_window_that_does_not_fit_is_a_clear_error():
    up = on_gpu(Upscaler(OutOfMemory(0, "decode"), "cpu", "fp32"))
    with pytest.raises(RealSRTError, match="out of memory on cpu with a single window"):
        up.upscale(noise(40, 40, 3))


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (…)"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried …"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_other_errors_pass_through():
    class Broken(Fake):
        def decode(self, ids, guide, *, fidelity):
            raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        Upscaler(Broken()).upscale(noise(8, 8, 3))


class Fragile(Fake):
    """Fails on bright windows, in reduced precision only unless `always`."""

    def __init__(self, fault, always=False, from_step=0):
        super().__init__()
        self.fault, self.always, self.from_step = fault, always, from_step

    def _sick(self, guide):
        return (guide.mean((1, 2, 3)) > 0.6) & (self.always or torch.is_autocast_enabled("cpu"))

    def decode(self, ids, guide, *, fidelity):
        out = torch.cat(
            [super(Fragile, self).decode(i[None], g[None], fidelity=fidelity) for i, g in zip(ids, guide, strict=True)]
        )
        level = {"nan": float("nan"), "inf": float("inf"), "black": 0.0}.get(self.fault)
        return out if level is None else torch.where(self._sick(guide)[:, None, None, None], level, out)

    def iterate(self, guide, **options):
        for number, step in enumerate(super().iterate(guide, **options)):
            if self.fault == "confidence" and number >= self.from_step and step.confidence is not None:
                step = step._replace(confidence=torch.where(self._sick(guide)[:, None], torch.nan, step.confidence))
            yield step


def spotted():
    picture = noise(40, 40, 3) * 0.2
    picture[:, 24:] += 0.7
    return picture


@pytest.mark.parametrize("fault", ["nan", "inf", "black", "confidence"])
@pytest.mark.parametrize("method", ["upscale", "stream"])
@pytest.mark.parametrize("batch", [1, 16])
def test_broken_windows_are_redone_in_float32(fault, method, batch):
    expected = Upscaler(Fragile(""), "cpu", "bf16").upscale(spotted())
    up = on_gpu(Upscaler(Fragile(fault), "cpu", "bf16"))
    result = getattr(up, method)(spotted(), max_minibatch=batch)
    out = list(result)[-1] if method == "stream" else result
    np.testing.assert_allclose(out.image, expected.image, atol=0.02)
    assert np.isfinite(out.confidence).all()
    redone = sum(up.model.precise)
    assert 0 < redone <= 8  # each once, though a stream meets its fault at every step; healthy ones never
    assert len(up.model.precise) > redone


def test_a_fault_in_the_middle_of_a_stream():
    up = on_gpu(Upscaler(Fragile("confidence", from_step=1), "cpu", "bf16"))
    steps = list(up.stream(spotted()))
    assert all(np.isfinite(step.confidence).all() for step in steps)
    assert sum(up.model.precise) <= 8


@pytest.mark.parametrize("fault", ["nan", "inf", "black"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_what_stays_broken_is_an_error(fault, precision):
    up = Upscaler(Fragile(fault, always=True), "cpu", precision)
    with pytest.raises(RealSRTError, match="in float32 too"):
        up.upscale(spotted())


def test_black_pictures_may_be_black():
    out = make().upscale(np.zeros((20, 20, 3), np.uint8), steps=1).image
    assert not out.any()


def test_a_sampler_that_stops_early():
    class Early(Fake):
        def iterate(self, guide, *, num_steps, **options):
            return super().iterate(guide, num_steps=1, **options)

    out = Upscaler(Early()).upscale(noise(8, 8, 3), keep_steps=True)
    assert len(out.steps) == 3
    assert np.array_equal(out.steps[0].image, out.steps[2].image)


@pytest.mark.parametrize("preset", ["tiny", "tiny_paper"])
def test_real_models_fit_the_pipeline(preset):
    presets = pytest.importorskip("realsrt.presets")
    picture = (noise(20, 70, 3) * 255).astype(np.uint8)
    up = Upscaler(presets.build(preset), "cpu")
    out = up.upscale(picture)
    config = up.model.config
    assert out.image.shape == (80, 280, 3)
    assert out.ids.shape[1:] == (config.window // config.fold,) * 2
    assert out.num_steps == config.num_steps
    *_, last = up.stream(picture)
    assert last.image.tobytes() == out.image.tobytes()
    assert np.array_equal(last.confidence, out.confidence)


def test_runner_batches_are_one_on_the_cpu_only():
    assert Runner(Fake(), torch.device("cpu"), torch.float32).batch_size(9) == 1
    runner = Runner(Fake(), torch.device("meta"), torch.float32)
    assert runner.batch_size() > 1
    assert runner.batch_size(9) == 9
    runner.too_large(9)
    assert runner.batch_size(9) == 4


def test_on_a_gpu_the_first_batch_tells_how_many_fit():
    runner = Runner(Fake(), torch.device("meta"), torch.float32)
    runner._gauge = SimpleNamespace(room=lambda windows: 5 * windows)
    assert runner.batch_size() == 16
    runner.measured(16)
    assert runner.batch_size() == 80
    runner.measured(80)
    assert runner.batch_size() == 80
    assert runner.batch_size(9) == 9
    runner.too_large(80)
    assert runner.batch_size() == 40
    scarce = Runner(Fake(), torch.device("meta"), torch.float32)
    scarce._gauge = SimpleNamespace(room=lambda windows: 0)
    scarce.measured(16)
    assert scarce.batch_size() == 1


def test_upscaler_is_the_packages():
    import realsrt

    assert realsrt.Upscaler is upscaler.Upscaler


def test_refinement_and_early_exit_reach_the_model_and_their_defaults_are_its_own():
    up = make()
    up.upscale(noise(8, 8, 3))
    up.upscale(noise(8, 8, 3), refine="sparse", confidence_exit=0.5)
    assert up.model.refined == [(False, None), (True, 0.5)]
    own = make(refine="sparse", confidence_exit=0.25)
    own.upscale(noise(8, 8, 3))
    own.upscale(noise(8, 8, 3), refine="dense", confidence_exit=1.0)
    assert own.model.refined == [(True, 0.25), (False, None)]


@pytest.mark.parametrize("options", [{"refine": "thin"}, {"confidence_exit": 1.5}, {"confidence_exit": -0.1}])
def test_impossible_ways_to_refine_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        make().upscale(noise(8, 8, 3), **options)


def test_windows_that_are_sure_take_fewer_steps_and_the_rest_is_as_before():
    model = realsrt.presets.build("tiny", 0).eval()
    up, image = Upscaler(model), noise(64, 96, 3)
    full = up.upscale(image, steps=3)
    means = np.array([up.upscale(image, steps=1).confidence[:, at : at + 16].mean() for at in (0, 8)])
    assert full.window_steps.tolist() == [3, 3]
    assert up.upscale(image, steps=3, confidence_exit=float(means.max()) + 0.1).window_steps.tolist() == [3, 3]
    out = up.upscale(image, steps=3, confidence_exit=0.0)
    assert out.window_steps.tolist() == [1, 1]
    first = up.upscale(image, steps=1)
    assert np.array_equal(out.image, first.image)
    assert np.array_equal(out.ids, first.ids)
    assert [step.window_steps.tolist() for step in up.stream(image, steps=3, confidence_exit=0.0)] == [[1, 1]] * 3


class Both(Fragile):
    """Fails on bright windows in reduced precision, and has no room for more than two at once."""

    def decode(self, ids, guide, *, fidelity):
        if len(ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().decode(ids, guide, fidelity=fidelity)


@pytest.mark.parametrize("method", ["upscale", "stream"])
def test_broken_windows_and_too_little_memory_at_once(method):
    expected = Upscaler(Fragile(""), "cpu", "bf16").upscale(spotted())
    result = getattr(on_gpu(Upscaler(Both("nan"), "cpu", "bf16")), method)(spotted())
    out = list(result)[-1] if method == "stream" else result
    np.testing.assert_allclose(out.image, expected.image, atol=0.02)
