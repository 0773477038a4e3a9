import itertools

import numpy as np
import pytest
import torch

from realsrt import presets
from realsrt.errors import ImageError, RealSRTError, UsageError
from realsrt.inference import many
from realsrt.inference.runner import Runner
from realsrt.inference.upscaler import Upscaler


@pytest.fixture
def up():
    return Upscaler(presets.build("tiny", 0), "cpu")


def pictures():
    rng = np.random.default_rng(0)
    sizes = [(5, 9), (64, 64), (1, 1), (70, 40), (30, 130)]
    rgb = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes]
    deep = rng.integers(0, 65536, (12, 20), dtype=np.uint16)
    clear = rng.random((20, 33, 4), dtype=np.float32)
    return [*rgb, deep, clear, torch.rand(2, 3, 17, 19, generator=torch.Generator().manual_seed(0))]


def same(one, other):
    as_array = [item.image.numpy() if isinstance(item.image, torch.Tensor) else item.image for item in (one, other)]
    assert as_array[0].dtype == as_array[1].dtype
    np.testing.assert_array_equal(*as_array)
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.confidence, other.confidence)
    np.testing.assert_array_equal(one.window_steps, other.window_steps)
    assert one.restored == other.restored
    assert len(one.restored) == (len(one.image) if isinstance(one.image, torch.Tensor) else 1)


@pytest.mark.parametrize("options", [{}, {"steps": 1, "outscale": 2.5, "alpha": "model"}, {"confidence_exit": 0.5}])
def test_on_the_cpu_every_byte_is_that_of_upscale(up, options):
    found = list(up.upscale_many(pictures(), **options))
    assert len(found) == len(pictures())
    for picture, result in zip(pictures(), found, strict=True):
        same(result, up.upscale(picture, **options))


@pytest.mark.parametrize("size", [2, 3, 7, 100])
def test_windows_of_several_pictures_share_a_batch(up, monkeypatch, size):
    alone = [up.upscale(picture) for picture in pictures()]
    batches = []
    start = Runner.start
    monkeypatch.setattr(Runner, "batch_size", lambda self, limit=None: size)
    monkeypatch.setattr(Runner, "start", lambda *args: batches.append(len(args[1])) or start(*args))
    for one, other in zip(up.upscale_many(pictures()), alone, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_allclose(np.float64(one.image), np.float64(other.image), rtol=2e-3, atol=2)
    total = sum(len(result.ids.reshape(-1, *result.ids.shape[-2:])) for result in alone)
    assert batches == [size] * (total // size) + [total % size] * (total % size > 0)


def test_pictures_are_drawn_as_they_are_needed(up):
    drawn = []

    def endless():
        for number in itertools.count():
            drawn.append(number)
            yield np.full((8, 8, 3), number, np.uint8)

    some = list(itertools.islice(up.upscale_many(endless()), 3))
    assert len(some) == 3
    assert drawn == [0, 1, 2]


def test_a_bad_picture_is_an_error_in_its_place(up):
    bad = np.full((8, 8, 3), np.nan, np.float32)
    images = [pictures()[0], bad, pictures()[1]]
    first, error, last = up.upscale_many(images, return_errors=True)
    assert isinstance(error, ImageError)
    same(first, up.upscale(images[0]))
    same(last, up.upscale(images[2]))
    with pytest.raises(ImageError, match="finite"):
        list(up.upscale_many(images))


@pytest.mark.parametrize("size", [1, 2, 50])
def test_a_picture_that_the_model_fails_on_takes_no_other_along(up, monkeypatch, size):
    decode = up.model.decode

    def fragile(ids, guide, **options):
        image = decode(ids, guide, **options)
        spotted = guide.lq.amax((1, 2, 3)) == 1
        return torch.where(spotted[:, None, None, None], torch.nan, image)

    monkeypatch.setattr(up.model, "decode", fragile)
    monkeypatch.setattr(Runner, "batch_size", lambda self, limit=None: size)
    gray = np.full((70, 70, 3), 100, np.uint8)
    white = np.full((70, 70, 3), 255, np.uint8)
    results = list(up.upscale_many([gray, white, gray], return_errors=True))
    assert isinstance(results[1], RealSRTError)
    for good in (results[0], results[2]):
        np.testing.assert_array_equal(good.ids, up.upscale(gray).ids)


@pytest.mark.parametrize("size", [1, 3, 50])
@pytest.mark.parametrize("where", ["decode", "assemble"])
def test_nor_does_one_with_which_something_unexpected_goes_wrong(up, monkeypatch, size, where):
    gray = np.full((70, 70, 3), 100, np.uint8)  # four windows
    white = np.full((70, 80, 3), 255, np.uint8)
    good = up.upscale(gray)
    decode, assemble = up.model.decode, many.assemble

    def decoding(ids, guide, **options):
        if (guide.lq.amax((1, 2, 3)) == 1).any():
            raise ValueError("of white")
        return decode(ids, guide, **options)

    def assembling(job, view, steps, results):
        if tuple(job.inputs[0].colour.hw) == (70, 80):
            next(results)
            raise ValueError("of white")
        return assemble(job, view, steps, results)

    if where == "decode":
        monkeypatch.setattr(up.model, "decode", decoding)
    else:
        monkeypatch.setattr(many, "assemble", assembling)
    monkeypatch.setattr(Runner, "batch_size", lambda self, limit=None: size)
    first, error, last = up.upscale_many([gray, white, gray], return_errors=True)
    assert (type(error), str(error)) == (ValueError, "of white")
    same(first, good)
    same(last, good)
    with pytest.raises(ValueError, match="of white"):
        list(up.upscale_many([white, gray]))


def test_options_are_checked(up):
    with pytest.raises(UsageError, match="steps"):
        list(up.upscale_many(pictures(), steps=-1, return_errors=True))
    with pytest.raises(TypeError):
        list(up.upscale_many(pictures(), stepz=1))
