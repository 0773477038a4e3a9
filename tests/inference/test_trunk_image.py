"""The trunk on whole pictures: the same numbers in pieces of any size, base pictures, strengths, and failures."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from realsrt import presets
from realsrt.errors import RealSRTError, UsageError
from realsrt.imaging import tiling
from realsrt.imaging.resize import resize
from realsrt.inference.adapters import Planes
from realsrt.inference.runner import is_out_of_memory
from realsrt.inference.trunk_image import TrunkImage
from realsrt.models.trunk import Way, choose
from realsrt.pipeline import Upscaler


@pytest.fixture(scope="module")
def up():
    return Upscaler(presets.build("tiny", 5))


@pytest.fixture(params=Way, ids=lambda way: way.name.lower())
def way(request, monkeypatch):
    """Each way of restoring, whatever an untrained estimator finds."""
    for place in ("realsrt.inference.trunk_image.choose", "realsrt.models.trunk.choose"):
        monkeypatch.setattr(place, lambda *given, **more: choose(*given, **more)._replace(way=request.param))
    return request.param


def picture(height, width, seed=0):
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def image_of(model, source, **options):
    options = {"precision": nullcontext, "is_out_of_memory": is_out_of_memory, "window": 16} | options
    return TrunkImage(model.trunk, Planes(source), torch.device("cpu"), **options)


def whole(image):
    strips = [image.strip(number) for number in range(image.strips)]
    return [torch.cat(parts, 1) for parts in zip(*strips, strict=True)]


def assert_same(one, other, way):
    """To the last bit; convolutions of the deep network may choose another order of sums for another size."""
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6 if way.deep else 0)


@pytest.mark.parametrize("piece", [16, 33, 50])
def test_pieces_of_any_size_give_the_same_bytes(up, way, piece, monkeypatch):
    source = picture(70, 83)
    monkeypatch.setattr("realsrt.inference.trunk_image.PIECE", 96)
    at_once = whole(image_of(up.model, source, piece=96))
    monkeypatch.setattr("realsrt.inference.trunk_image.PIECE", 32)
    in_pieces = image_of(up.model, source, piece=piece)
    assert in_pieces.strips > 1
    for one, other in zip(at_once, whole(in_pieces), strict=True):
        assert_same(one, other, way)
    alone = image_of(up.model, source, piece=piece)  # without features, where the input is reduced
    assert_same(torch.cat(list(alone.base_strips()), 1), at_once[1], way)


@pytest.mark.parametrize("size", [(40, 61), (1, 2), (16, 3)])
@pytest.mark.usefixtures("way")
def test_the_whole_is_what_the_trunk_makes_of_the_picture(up, size):
    source = picture(*size)
    with torch.inference_mode():
        features, base = up.model.trunk(source[None])
    found = whole(image_of(up.model, source))
    torch.testing.assert_close(found[0], features[0])
    torch.testing.assert_close(found[1], base[0])


def test_a_reduced_input_is_restored_at_two_thirds_of_its_side(up):
    source = torch.nn.functional.interpolate(picture(10, 14)[None], scale_factor=4.0, mode="bilinear")[0]
    trunk = up.model.trunk
    with torch.inference_mode():
        plain, other, deep = (trunk.restore(source[None], 1.0, way) for way in list(Way)[:3])
        seen = resize(source[None], (27, 37), "bicubic", antialias=True).clamp(0, 1)
        own, deeper = trunk.strong(seen), trunk.see(seen, 1.0, Way.DEEP)
        expected, deeper = (resize(image, (160, 224), "bicubic", antialias=True) for image in (own, deeper))
    torch.testing.assert_close(other[1], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(deep[1], deeper, rtol=0, atol=1e-4)
    assert torch.equal(other[0], plain[0])  # features are of the whole
    assert (other[1] - plain[1]).abs().mean() > 1e-3


@pytest.mark.parametrize("deep", [Way.DEEP_REDUCED, Way.DEEP])
def test_a_deep_image_is_mixed_with_that_of_the_whole_by_the_strength(up, deep):
    source, trunk = picture(20, 14)[None], up.model.trunk
    with torch.inference_mode():
        mild, half, full = (trunk.restore(source, strength, deep)[1] for strength in (0.0, 0.5, 1.0))
        assert torch.equal(mild, trunk.restore(source, 0.0, Way.WHOLE)[1])
        torch.testing.assert_close(half, (trunk.restore(source, 0.5, Way.WHOLE)[1] + full) / 2)
        if deep == Way.DEEP:
            made = trunk.deep(source)
            shift = full - made  # smooth
            torch.testing.assert_close(shift, shift.mean((2, 3), keepdim=True).expand_as(made), rtol=0, atol=0.05)
            assert not torch.allclose(full, made, atol=1e-3)
            seen = torch.nn.functional.avg_pool2d(full, 4)
            torch.testing.assert_close(seen.mean((2, 3)), source.mean((2, 3)), rtol=0, atol=0.02)  # its colours


@pytest.mark.parametrize(("precision", "able", "dtype"), [
    ("auto", True, torch.bfloat16), ("auto", False, torch.float32), ("fp32", True, torch.float32),
])  # fmt: skip
def test_all_but_zero_steps_computes_in_bf16_where_the_cpu_multiplies_it(monkeypatch, precision, able, dtype):
    monkeypatch.setattr("realsrt.inference.runner.cpu_multiplies_bf16", lambda: able)
    monkeypatch.setattr(
        "realsrt.inference.trunk_image.choose", lambda *given, **more: choose(*given)._replace(way=Way.DEEP, denoise=1)
    )
    model = presets.build("tiny", 5)
    kinds = {"deep": set(), "windows": set(), "compact": set()}
    for name, part in model.named_modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            deep, compact = ".deep." in name, "trunk." in name
            kind = kinds["deep" if deep else "compact" if compact else "windows"]
            if not name.endswith("conv_last"):  # the last of the deep network makes the image: in single precision
                part.register_forward_hook(lambda _, __, made, kind=kind: kind.add(made.dtype))
    up = Upscaler(model, "cpu", precision)
    up.upscale(picture(20, 24)[None], steps=1)
    assert kinds == {"deep": {dtype}, "windows": {dtype}, "compact": {torch.float32}}
    assert up.precision == torch.float32


def test_a_model_without_a_trunk_keeps_to_single_precision_on_a_cpu(monkeypatch):
    monkeypatch.setattr("realsrt.inference.runner.cpu_multiplies_bf16", lambda: True)
    model, kinds = presets.build("tiny_paper", 5), set()
    model.generator.register_forward_hook(lambda _, __, made: kinds.add(made.dtype))
    Upscaler(model, "cpu").upscale(picture(20, 24)[None], steps=1)
    assert kinds <= {torch.float32}


@pytest.mark.parametrize("size", [(70, 45), (5, 9), (1, 1)])
def test_windows_are_cut_from_the_whole_with_the_border_mirrored_in(up, size):
    source = picture(*size)
    image, tiles = image_of(up.model, source), tiling.plan(*size, 16, 12)
    features, base = whole(image)
    for index in range(len(tiles)):
        ground = image.window(tiles, index)
        rows, columns = tiling.window_at(tiles, index)
        assert torch.equal(ground.features[0], features[:, rows][:, :, columns])
        y, x = (a - b for a, b in zip(tiles.position(index), (tiles.top, tiles.left), strict=True))
        inside = [
            (max(0, -at), min(16, side - at)) for at, side in zip((y, x), size, strict=True)
        ]  # of the window, in the picture
        (top, bottom), (left, right) = inside
        cut = ground.base[0, :, 4 * top : 4 * bottom, 4 * left : 4 * right]
        assert torch.equal(cut, base[:, 4 * (y + top) : 4 * (y + bottom), 4 * (x + left) : 4 * (x + right)])
        lq = source[:, rows][:, :, columns]
        enlarged = ground.base[0].unflatten(1, (-1, 4)).unflatten(3, (-1, 4)).mean((2, 4))
        assert (enlarged - lq).abs().mean() < 0.5  # pixels lie where they should, mirrored ones too
    assert ground.base.shape == (1, 3, 64, 64)


def test_windows_in_some_columns_alone(up, way):
    """They are the same, and nothing is restored for the other columns."""
    source = picture(30, 90)
    tiles = tiling.plan(30, 90, 16, 12)
    some = [index for index in range(len(tiles)) if 20 <= tiles.position(index)[1] - tiles.left <= 44]
    columns = tiling.columns_of(tiles, some)
    assert 16 < len(columns) < 60
    whole, part = image_of(up.model, source), image_of(up.model, source, columns=columns)
    assert part.strip(0)[1].shape[2] == 4 * len(columns)
    for index in some:
        for one, other in zip(whole.window(tiles, index), part.window(tiles, index), strict=True):
            assert_same(one, other, way)


def test_no_steps_give_the_base_picture(up):
    source = picture(37, 50)
    out = up.upscale(source[None], steps=0, denoise=1.0, color_fix="none")
    with torch.inference_mode():
        _, base = up.model.trunk(source[None], 1.0, deep=False)
    torch.testing.assert_close(out.image, base.clamp(0, 1))
    assert out.confidence is None
    assert out.ids is None
    assert (out.step, out.num_steps) == (0, 0)
    assert not out.window_steps.any()


def test_no_steps_are_the_same_streamed_in_rows_and_among_many(up):
    source = (picture(37, 50).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    once = up.upscale(source, steps=0).image
    assert np.array_equal(next(iter(up.stream(source, steps=0))).image, once)
    many = list(up.upscale_many([source, source[:20]], steps=0))
    assert np.array_equal(many[0].image, once)
    rows = []
    told = []
    up.upscale(
        source, steps=0, rows=lambda first, planes: rows.append(planes.rgb), on_progress=lambda *x: told.append(x)
    )
    joined = (torch.cat(rows, 1).permute(1, 2, 0).numpy() * 255).round()
    assert np.abs(joined - once).max() <= 1
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]


def test_strength_changes_the_picture_and_auto_is_one_of_them(up):
    source = picture(32, 32)[None]
    mild, strong, auto = (up.upscale(source, steps=0, denoise=d).image for d in (0.0, 1.0, "auto"))
    assert not torch.equal(mild, strong)
    chosen = up.model.trunk
    with torch.inference_mode():
        strength = choose(chosen.costs(source)[0], deep=False).denoise
    assert torch.equal(auto, up.upscale(source, steps=0, denoise=strength).image)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), None, "0.5", True])
def test_strengths_outside_are_refused(up, wrong):
    with pytest.raises(UsageError, match="denoise"):
        up.upscale(picture(16, 16)[None], denoise=wrong)


def test_steps_are_whole_numbers(up):
    with pytest.raises(UsageError, match="whole number"):
        up.upscale(picture(16, 16)[None], steps=1.5)


def test_models_without_a_trunk_have_neither():
    paper = Upscaler(presets.build("tiny_paper"))
    with pytest.raises(UsageError, match="denois"):
        paper.upscale(picture(16, 16)[None], denoise=0.5)
    with pytest.raises(UsageError, match="steps"):
        paper.upscale(picture(16, 16)[None], steps=0)


@pytest.mark.parametrize(("size", "limit"), [((60, 700), 10_000), ((150, 300), 9_000), ((100, 100), 2_500)])
def test_memory_that_runs_out_in_the_middle_loses_nothing(up, monkeypatch, size, limit):
    """Several pieces, of which some fit and others do not, and pieces that are halved twice."""
    source, network = picture(*size), up.model.trunk.network(0.0)
    whole_at_once = whole(image_of(up.model, source, denoise=0.0))
    features = network.features

    def bounded(lq):
        if lq.shape[-1] * lq.shape[-2] > limit:
            raise torch.OutOfMemoryError("out of memory")
        return features(lq)

    monkeypatch.setattr(network, "features", bounded)
    for one, other in zip(whole_at_once, whole(image_of(up.model, source, denoise=0.0)), strict=True):
        assert torch.equal(one, other)


def test_out_of_memory_halves_the_pieces_and_changes_nothing(up, way, monkeypatch):
    source = picture(100, 100)
    expected = whole(image_of(up.model, source))
    network, calls = up.model.trunk.strong.__class__, []
    honest = network.features

    def scarce(self, lq):
        calls.append(lq.shape[-2:].numel())
        if calls[-1] > 70 * 70:
            raise torch.OutOfMemoryError("out of memory")
        return honest(self, lq)

    monkeypatch.setattr(network, "features", scarce)
    for one, other in zip(expected, whole(image_of(up.model, source)), strict=True):
        assert_same(one, other, way)
    assert max(calls) > 70 * 70
    monkeypatch.setattr(network, "features", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory")))
    with pytest.raises(RealSRTError, match="out of memory"):
        image_of(up.model, source).strip(0)


def test_a_base_picture_that_is_not_finite_is_an_error(monkeypatch):
    broken = Upscaler(presets.build("tiny", 6))
    with torch.no_grad():
        for end in (broken.model.trunk.mild, broken.model.trunk.strong):
            end.body[-1].bias.fill_(torch.nan)
    with pytest.raises(RealSRTError, match="not finite"):
        broken.upscale(picture(20, 20)[None], steps=0)


def test_regenerate_needs_tokens(up):
    source = (picture(32, 32).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    with pytest.raises(UsageError, match="no tokens"):
        up.regenerate(up.upscale(source, steps=0), (0, 0, 16, 16))
