import dataclasses
import math
import random
import sys
from collections import Counter

import pytest
import torch

from realsrt.degradations import PROTOCOLS, REALESRGAN, DegradationConfig, apply, degrade, draw_plan, protocol
from realsrt.degradations.plans import KERNEL_KINDS, BlurPlan, NoisePlan, OrderPlan, Plan
from realsrt.errors import UsageError


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def gt_BCHW() -> torch.Tensor:
    pytest.importorskip("PIL", reason="Pillow is in the extra `train`")
    coarse = torch.rand(3, 3, 24, 18, generator=rng(5))
    return torch.nn.functional.interpolate(coarse, size=(128, 96), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def plans():
    dice = random.Random(0)
    return [draw_plan(REALESRGAN, dice) for _ in range(6000)]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_size_range_and_8_bit(gt_BCHW, name):
    lq_BCHW = degrade(gt_BCHW, config=protocol(name), rng=rng())
    assert lq_BCHW.shape == (3, 3, 32, 24)
    assert lq_BCHW.dtype == torch.float32
    levels = lq_BCHW * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert lq_BCHW.min() >= 0
    assert lq_BCHW.max() <= 1


def test_seed_decides(gt_BCHW):
    first = degrade(gt_BCHW, rng=rng())
    assert torch.equal(first, degrade(gt_BCHW, rng=rng()))
    assert not torch.equal(first, degrade(gt_BCHW, rng=rng(1)))


def test_global_random_state_is_neither_read_nor_moved(gt_BCHW):
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        first = degrade(gt_BCHW, rng=rng())
        assert torch.equal(before, torch.get_rng_state())
        torch.manual_seed(77)
        random.seed(77)
        assert torch.equal(first, degrade(gt_BCHW, rng=rng()))


@pytest.mark.parametrize("name", ["realesrgan", "mixed"])
def test_a_sample_does_not_depend_on_its_batch(gt_BCHW, name):
    together = degrade(gt_BCHW, config=PROTOCOLS[name], rng=rng(3))
    one_rng = rng(3)
    alone = [degrade(gt_BCHW[i : i + 1], config=PROTOCOLS[name], rng=one_rng) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_the_batched_way_of_gpus_agrees_with_one_by_one(gt_BCHW):
    plans = [draw_plan(PROTOCOLS["mixed"], random.Random(seed)) for seed in range(3)]
    assert len({len(plan.orders) for plan in plans}) > 1  # protocols do mix
    with torch.no_grad():
        together = apply.run_plans(list(gt_BCHW.split(1)), plans, [rng(i) for i in range(3)], 4)
        for i, image in enumerate(together):
            alone = apply.run_plans([gt_BCHW[i : i + 1]], [plans[i]], [rng(i)], 4)[0]
            assert (image - alone).abs().mean() < 1e-3


def test_a_batch_is_degraded_without_reading_it():
    pytest.importorskip("kornia", reason="JPEG by tensors needs the extra train")
    plans = [draw_plan(REALESRGAN, random.Random(seed)) for seed in range(8)]
    images = [torch.zeros(1, 3, 128, 128, device="meta") for _ in plans]  # has no values: reading one raises
    out = apply.run_plans(images, plans, [rng() for _ in plans], 4)
    assert {(image.device.type, *image.shape) for image in out} == {("meta", 1, 3, 32, 32)}


@pytest.mark.parametrize("jpeg_first", [False, True])
def test_steps_come_in_order_and_at_their_sizes(gt_BCHW, monkeypatch, jpeg_first):
    steps = []

    def record(name, of_image):
        def step(images, *args, **kwargs):
            image = images[0] if isinstance(images, list) else images
            steps.append((name, *image.shape[2:]))
            return of_image(images, *args, **kwargs)

        return step

    monkeypatch.setattr(apply, "filter_each", record("blur", apply.filter_each))
    monkeypatch.setattr(apply, "resize_each", record("resize", apply.resize_each))
    monkeypatch.setattr(apply, "add_noise", record("noise", apply.add_noise))
    monkeypatch.setattr(apply, "pillow_jpeg", record("jpeg", apply.pillow_jpeg))
    blur = BlurPlan("sinc", 7, cutoff=2.0)
    orders = (
        OrderPlan(blur, 0.5, "area", NoisePlan("gaussian", 5.0, False), 50.0),
        OrderPlan(blur, 1.25, "bicubic", NoisePlan("poisson", 1.0, True), 80.0),
    )
    plan = Plan(orders, "bilinear", blur, jpeg_first, antialias=False)
    apply.run_plans([gt_BCHW[:1]], [plan], [rng()], 4)
    first = [("blur", 128, 96), ("resize", 128, 96), ("noise", 64, 48), ("jpeg", 64, 48)]
    second = [("blur", 64, 48), ("resize", 64, 48), ("noise", 40, 30)]
    final = [("resize", 40, 30), ("blur", 32, 24)]
    end = [("jpeg", 40, 30), *final] if jpeg_first else [*final, ("jpeg", 32, 24)]
    assert steps == first + second + end


def test_plans_of_different_length_keep_to_themselves(gt_BCHW):
    bicubic, heavy = (draw_plan(PROTOCOLS[name], random.Random(0)) for name in ("bicubic", "realesrgan"))
    together = apply.run_plans(list(gt_BCHW[:2].split(1)), [bicubic, heavy], [rng(), rng()], 4)
    assert torch.equal(together[0], degrade(gt_BCHW[:1], config=PROTOCOLS["bicubic"], rng=rng()))


def test_bicubic_is_the_plain_antialiased_downscale(gt_BCHW):
    expected = torch.nn.functional.interpolate(gt_BCHW, size=(32, 24), mode="bicubic", antialias=True)
    expected = (expected.clamp(0, 1) * 255).round() / 255
    assert torch.equal(degrade(gt_BCHW, config=PROTOCOLS["bicubic"], rng=rng()), expected)


def test_protocols_are_ordered_by_harm(gt_BCHW):
    gt_BCHW = gt_BCHW[:1].repeat(12, 1, 1, 1)
    clean = degrade(gt_BCHW, config=PROTOCOLS["bicubic"], rng=rng())
    light, mixed, heavy = (
        (degrade(gt_BCHW, config=PROTOCOLS[name], rng=rng()) - clean).square().mean().item()
        for name in ("light", "mixed", "realesrgan")
    )
    assert 0 < light < mixed < heavy


def test_smallest_targets_and_other_scales(gt_BCHW):
    for seed in range(6):
        assert degrade(gt_BCHW[:1, :, :64, :64], rng=rng(seed)).shape == (1, 3, 16, 16)
    assert degrade(gt_BCHW[:1], rng=rng(), scale=2).shape == (1, 3, 64, 48)


def test_sides_that_do_not_divide_are_refused(gt_BCHW):
    with pytest.raises(UsageError, match="94x128"):
        degrade(gt_BCHW[:, :, :, :94], rng=rng())


def test_unknown_protocol_is_refused():
    with pytest.raises(UsageError, match=r"'jpg'.*bicubic, stored, light, realesrgan, mixed, everyday"):
        protocol("jpg")


def test_missing_pillow_says_what_to_install(gt_BCHW, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"pip install '\.\[train\]'"):
        degrade(gt_BCHW[:1], rng=rng())


# What is drawn, against the table of Real-ESRGAN x4plus.


def share(items, of) -> float:
    items = list(items)
    return sum(map(of, items)) / len(items)


def near(value: float):
    return pytest.approx(value, abs=0.03)


def assert_range(values, low: float, high: float) -> None:
    values = list(values)
    margin = 0.05 * (high - low)
    assert low <= min(values) < low + margin
    assert high - margin < max(values) <= high


@pytest.mark.parametrize(
    "number, blurred, sigma, ways, resize, gaussian, poisson",
    [
        (0, 1.0, (0.2, 3), (0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3)),
        (1, 0.8, (0.2, 1.5), (0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5)),
    ],
)
def test_orders_follow_the_table(plans, number, blurred, sigma, ways, resize, gaussian, poisson):
    orders = [plan.orders[number] for plan in plans]
    assert share(orders, lambda o: o.blur is not None) == near(blurred)
    bells = [o.blur for o in orders if o.blur and o.blur.kind != "sinc"]
    kinds = Counter(bell.kind for bell in bells)
    for kind, expected in zip(KERNEL_KINDS, (0.45, 0.25, 0.12, 0.03, 0.12, 0.03), strict=True):
        assert kinds[kind] / len(bells) == near(expected)
    assert_range((bell.sigma_x for bell in bells), *sigma)
    assert_range((bell.sigma_y for bell in bells), *sigma)
    for way, of in zip(ways, (lambda f: f > 1, lambda f: f < 1, lambda f: f == 1), strict=True):
        assert share((o.factor for o in orders), of) == near(way)
    assert_range((o.factor for o in orders), *resize)
    assert {o.filter for o in orders} == {"area", "bilinear", "bicubic"}
    noises = [o.noise for o in orders]
    assert share(noises, lambda n: n.kind == "gaussian") == near(0.5)
    assert share(noises, lambda n: n.gray) == near(0.4)
    assert_range((n.strength for n in noises if n.kind == "gaussian"), *gaussian)
    assert_range((n.strength for n in noises if n.kind == "poisson"), *poisson)
    assert_range((o.quality for o in orders), 30, 95)


def test_kernels_follow_the_table(plans):
    blurs = [plan.orders[0].blur for plan in plans]
    assert share(blurs, lambda b: b.kind == "sinc") == near(0.1)
    sizes = Counter(b.size for b in blurs)
    assert sorted(sizes) == [7, 9, 11, 13, 15, 17, 19, 21]
    assert all(count / len(blurs) == near(1 / 8) for count in sizes.values())
    assert_range((b.cutoff for b in blurs if b.kind == "sinc" and b.size < 13), math.pi / 3, math.pi)
    assert_range((b.cutoff for b in blurs if b.kind == "sinc" and b.size >= 13), math.pi / 5, math.pi)
    generalised = [b.beta for b in blurs if b.kind.startswith("generalised")]
    plateau = [b.beta for b in blurs if b.kind.startswith("plateau")]
    assert_range(generalised, 0.5, 4)
    assert_range(plateau, 1, 2)
    assert share(generalised, lambda beta: beta < 1) == pytest.approx(0.5, abs=0.06)
    assert {b.beta for b in blurs if b.kind in ("iso", "aniso")} == {1.0}
    assert all(b.sigma_x == b.sigma_y for b in blurs if b.kind.endswith("iso") and "aniso" not in b.kind)
    assert_range((b.angle for b in blurs if b.kind.endswith("aniso")), -math.pi, math.pi)


def test_final_stage_follows_the_table(plans):
    assert share(plans, lambda p: p.final_sinc is not None) == near(0.8)
    assert share(plans, lambda p: p.jpeg_first) == near(0.5)
    assert_range((p.final_sinc.cutoff for p in plans if p.final_sinc), math.pi / 3, math.pi)
    assert not any(p.antialias for p in plans)


def test_mixture_draws_its_shares():
    dice = random.Random(0)
    orders = Counter(len(draw_plan(PROTOCOLS["mixed"], dice).orders) for _ in range(4000))
    assert [orders[n] / 4000 for n in (0, 1, 2)] == [near(0.3), near(0.25), near(0.45)]


def test_made_kernels_are_the_planned_kinds():
    sinc, bell = apply.make_kernels([BlurPlan("sinc", 21, cutoff=1.5), BlurPlan("plateau_iso", 7, 2.0, 2.0, beta=1.5)])
    assert sinc.min() < 0
    assert bell.min() >= 0
    assert (bell[10, 12] / bell[10, 10]).item() == pytest.approx(0.5)  # plateau at one sigma
    assert bell[6].sum() == 0


def test_configs_are_frozen_and_can_be_varied(gt_BCHW):
    with pytest.raises(dataclasses.FrozenInstanceError):
        REALESRGAN.final_sinc = 0.0  # pyright: ignore
    quiet = DegradationConfig(orders=tuple(dataclasses.replace(o, noise=0.0, jpeg=0.0) for o in REALESRGAN.orders))
    plan = draw_plan(quiet, random.Random(0))
    assert all(order.noise is None and order.quality is None for order in plan.orders)
