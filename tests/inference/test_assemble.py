import numpy as np
import pytest
import torch

import realsrt
from realsrt.batch.plan import FileJob
from realsrt.batch.resume import remove_leftovers
from realsrt.imaging.color import coarse, wavelet
from realsrt.imaging.resize import Lanczos, enlarge_linear, resize
from realsrt.inference import assemble
from realsrt.inference.adapters import Pixels, Planes
from realsrt.inference.assemble import RowStore
from realsrt.inference.options import UpscaleOptions
from realsrt.inference.request import make_request
from realsrt.inference.runner import View, WindowResult
from realsrt.io.picture import Picture


def samples(height, width, bands=3, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, bands), dtype)


@pytest.mark.parametrize(("height", "width", "pieces"), [(70, 9, (3, 100, 177)), (5, 31, (20,)), (40, 20, (1, 159))])
@pytest.mark.parametrize("color_fix", ["wavelet", "none"])
def test_strips_are_what_the_whole_picture_would_be(monkeypatch, height, width, pieces, color_fix):
    monkeypatch.setattr(assemble, "_STRIP_PIXELS", 1)  # strips of 64 rows
    source = Pixels(samples(height, width))
    image = torch.rand(3, 4 * height, 4 * width, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    out = list(assemble.fix_colors(image.split(list(pieces), 1), source, 4, color_fix))
    assert [rows.shape[1] for rows in out] == [min(64, 4 * height - y) for y in range(0, 4 * height, 64)]
    rgb = source.pick(torch.arange(height), torch.arange(width))
    enlarged = resize(rgb[None], (4 * height, 4 * width), "bicubic", antialias=True)[0]
    whole = wavelet(image, enlarged) if color_fix == "wavelet" else image
    torch.testing.assert_close(torch.cat(out, 1), whole.clamp(0, 1), atol=2e-6, rtol=0)


@pytest.mark.parametrize(("height", "width", "strip"), [(150, 9, 1), (150, 9, 2**20), (5, 31, 1), (1, 1, 1)])
def test_coarse_colours_are_the_same_bytes_however_the_rows_come(monkeypatch, height, width, strip):
    monkeypatch.setattr(assemble, "_STRIP_PIXELS", strip)
    source = Pixels(samples(height, width))
    image = torch.rand(3, 4 * height, 4 * width, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    rgb = source.pick(torch.arange(height), torch.arange(width))
    lost = rgb - torch.nn.functional.avg_pool2d(image.clamp(0, 1), 4)
    shift = torch.stack([coarse(plane) for plane in lost])
    whole = image + enlarge_linear(shift, 4)
    for piece in (4, 64, 4 * height):
        parts = list(assemble.keep_coarse(image.split(piece, 1), source, 4))
        assert torch.equal(torch.cat(parts, 1), whole)
        assert (len(parts) > 3) == (height == 150 and strip == 1 and piece < 600)


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_show_what_planes_hold(bands, dtype):
    hwc = samples(7, 9, bands, dtype)
    rows, columns = torch.tensor([6, 0, 0, 3]), torch.arange(8, -1, -2)
    chw = torch.from_numpy(Picture.from_array(hwc).rgb_float()).permute(2, 0, 1)
    assert torch.equal(Pixels(hwc).pick(rows, columns), Planes(chw).pick(rows, columns))
    assert Pixels(hwc).hw == Planes(chw).hw == (7, 9)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_gray_is_what_is_gray_to_the_last_pixel_and_bit(channel):
    hwc = np.repeat(samples(150, 5, 1, np.uint16), 3, 2)
    assert Pixels(hwc).gray
    assert Pixels(hwc[:, :, :1]).gray
    assert Planes(torch.from_numpy(Picture.from_array(hwc).rgb_float()).permute(2, 0, 1)).gray
    hwc[-1, -1, channel] ^= 1
    assert not Pixels(hwc).gray
    assert not Planes(torch.from_numpy(Picture.from_array(hwc).rgb_float()).permute(2, 0, 1)).gray


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("scratch", [True, False])
def test_a_store_gives_back_its_rows_from_memory_or_from_a_file(monkeypatch, tmp_path, bands, scratch):
    monkeypatch.setattr(assemble, "IN_MEMORY", 0 if scratch else 2**20)
    like = Picture.from_array(samples(3, 2, bands, np.uint16))
    store = RowStore(like, 5, 8, tmp_path / "a.png")
    rng = torch.Generator().manual_seed(0)
    rgb, alpha = torch.rand(1, 8, 5, generator=rng).expand(3, -1, -1), torch.rand(1, 8, 5, generator=rng)
    for first, stop in ((0, 3), (3, 8)):
        store.add(first, Planes(rgb[:, first:stop], alpha[:, first:stop] if bands in (2, 4) else None))
    picture = store.image()
    whole = like.with_pixels(rgb.permute(1, 2, 0).numpy(), alpha[0].numpy() if bands in (2, 4) else None)
    assert picture.pixels.dtype == np.uint16
    assert np.array_equal(picture.pixels, whole.pixels)
    assert len(list(tmp_path.iterdir())) == scratch
    assert remove_leftovers([FileJob(tmp_path / "in.png", tmp_path / "a.png")]) == scratch  # as after a killed run
    store.close()
    assert not list(tmp_path.iterdir())


def test_a_store_takes_rows_in_order_and_is_not_a_picture_before_the_last(tmp_path):
    store = RowStore(Picture.from_array(samples(3, 2)), 4, 8, tmp_path / "a.png")
    store.add(0, Planes(torch.zeros(3, 5, 4)))
    with pytest.raises(ValueError, match="only 5 of 8"):
        store.image()
    with pytest.raises(ValueError, match="in order"):
        store.add(6, Planes(torch.zeros(3, 2, 4)))


@pytest.fixture(scope="module")
def up():
    return realsrt.Upscaler(realsrt.presets.build("tiny", 0))


OPTIONS = [
    *(({}, bands) for bands in (1, 2, 3, 4)),
    *(({"outscale": scale}, bands) for scale in (0.3, 2.5, 5) for bands in (3, 4)),
    ({"size": (7, 500)}, 4),
    ({"size": (300, 360)}, 2),
    ({"alpha": "model"}, 4),
]


@pytest.mark.parametrize(("options", "bands"), OPTIONS)
def test_rows_are_the_picture(up, monkeypatch, tmp_path, options, bands):
    monkeypatch.setattr(assemble, "_STRIP_PIXELS", 1)
    picture = Picture.from_array(samples(90, 70, bands))
    whole = up.upscale(picture, steps=1, color_fix="wavelet", **options)
    pieces = []
    store = RowStore(picture, whole.image.width, whole.image.height, tmp_path / "a.png")
    add = lambda first, planes: (pieces.append(first), store.add(first, planes))  # noqa: E731
    out = up.upscale(picture, steps=1, color_fix="wavelet", rows=add, **options)
    assert np.array_equal(store.image().pixels, whole.image.pixels)
    assert out.image is None
    assert np.array_equal(out.confidence, whole.confidence)
    assert out.window_steps.tolist() == whole.window_steps.tolist()
    assert out.ids is None
    assert (len(pieces) > 1) == ("alpha" not in options)


@pytest.mark.parametrize("out_hw", [(36, 90), (96, 80), (97, 33), (7, 300), (500, 11), (96, 72)])
@pytest.mark.parametrize("strip", [1, 1000])
@pytest.mark.parametrize("piece", [1, 17, 96])
def test_resizing_in_pieces_is_resizing(monkeypatch, out_hw, strip, piece):
    monkeypatch.setattr(assemble, "_STRIP_PIXELS", strip * 100)
    rng = torch.Generator().manual_seed(0)
    rows, plane = torch.rand(3, 96, 80, generator=rng), torch.rand(1, 24, 20, generator=rng)
    got = list(assemble.fit(rows.split(piece, 1), (96, 80), out_hw, plane))
    expected = resize(rows[None], out_hw, "bicubic", antialias=True)[0].clamp(0, 1)
    torch.testing.assert_close(torch.cat([p.rgb for p in got], 1), expected, atol=2e-5, rtol=0)
    assert torch.equal(torch.cat([p.alpha for p in got], 1), Lanczos(plane, out_hw).rows(0, out_hw[0]))


def test_rows_come_before_the_last_window_is_done(up, monkeypatch):
    monkeypatch.setattr(assemble, "_STRIP_PIXELS", 1)
    log = []
    up.upscale(
        Picture.from_array(samples(200, 64)),
        steps=1,
        stride=64,
        rows=lambda first, planes: log.append(("rows", first)),
        on_progress=lambda done, total: log.append(("done", done, total)),
    )
    assert log.index(("rows", 0)) < log.index(("done", 4, 4))


def test_rows_are_of_one_last_step(up):
    with pytest.raises(realsrt.errors.UsageError, match="keep_steps"):
        up.upscale(Picture.from_array(samples(9, 9)), rows=print, keep_steps=True)


def test_a_picture_from_a_scratch_file_is_written_like_any_other(monkeypatch, tmp_path):
    from realsrt.io import image as imageio

    picture = Picture.from_array(samples(40, 30))
    rgb = torch.from_numpy(picture.rgb_float()).permute(2, 0, 1)
    imageio.write(tmp_path / "memory.png", picture)
    monkeypatch.setattr(assemble, "IN_MEMORY", 0)
    store = RowStore(picture, 30, 40, tmp_path / "a.png")
    store.add(0, Planes(rgb))
    imageio.write(tmp_path / "scratch.png", store.image())
    assert (tmp_path / "memory.png").read_bytes() == (tmp_path / "scratch.png").read_bytes()


@pytest.mark.parametrize(("indices", "problem"), [((0, 0), "in order: expected 1, got 0"), ((0,), "1 windows came")])
def test_windows_come_in_order_and_all_of_them(up, indices, problem):
    job = make_request(samples(64, 65), UpscaleOptions(), up.model.config)
    results = (
        WindowResult(index, torch.zeros(3, 256, 256), torch.zeros(32, 32), torch.zeros(32, 32), 1) for index in indices
    )
    with pytest.raises(ValueError, match=problem):
        assemble.assemble(job, View(job.inputs[0].colour, None), 1, results)
