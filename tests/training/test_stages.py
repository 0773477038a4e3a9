import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("accelerate")

from realsrt import presets
from realsrt.checkpoint.published import load_squeeze_features
from realsrt.errors import UsageError
from realsrt.losses import adaptive_weight, charbonnier, hinge_g_loss
from realsrt.model import CheckpointInfo
from realsrt.models.features import SqueezeFeatures, squeeze_distance
from realsrt.models.heads import straight
from realsrt.training.config import make_config
from realsrt.training.pair_pool import Batch
from realsrt.training.stages import BUILDERS, common
from realsrt.training.stages.common import Adversary, draw_masks, severity, weight_of_part
from realsrt.training.stages.critic import sample

FEATURES = Path(__file__).parents[2] / "recipes/features/squeezenet1_1.safetensors"
LEARNS = {
    "deep": ("trunk.deep.",),
    "tokenizer": ("tokenizer.",),
    "generator": ("generator.",),
    "critic": ("critic.",),
    "control": ("control.", "tokenizer.decoder.", "tokenizer.post_quant_conv."),
}
CODEBOOK = {f"tokenizer.quantizer.{name}" for name in ("weight", "cluster_size_ema", "embed_ema")}


def waves(count, side):
    """Pictures finer than a quarter of their resolution can hold."""
    y, x = torch.meshgrid(torch.arange(side).float(), torch.arange(side).float(), indexing="ij")
    planes = [
        0.5 + 0.35 * torch.sin(x / (1.3 + 0.3 * i + 0.2 * c) + c) * torch.cos(y / (1.7 + 0.2 * i) + i)
        for i in range(count)
        for c in range(3)
    ]
    return torch.stack(planes).view(count, 3, side, side)


def make_batch(count=2, side=64):
    gt = waves(count, side)
    lq = F.interpolate(gt, scale_factor=0.25, mode="bicubic", antialias=True).clamp(0, 1)
    return Batch(lq, gt, tuple(range(1, count + 1)), gt, torch.zeros(count, dtype=torch.bool))


def build_stage(model, name, **options):
    config = make_config(name, max_steps=1, init=Path("x"), discriminator_width=8, **options)
    if name != "tokenizer":
        model.sync_codebook()
    stage = BUILDERS[name](model, config)
    model.train()
    if name != "tokenizer":
        model.tokenizer.quantizer.eval()
    return stage


def run(model, name, batch, steps, lr, until=0.0, **options):
    """Train on one batch repeated, at most until that share of the first loss; the figure that stands for the stage,
    step by step."""
    stage = build_stage(model, name, **options)
    optimizer = torch.optim.AdamW([p for p in stage.main.parameters() if p.requires_grad], lr=lr, weight_decay=0)
    losses = []
    for step in range(steps):
        outcome = stage.main(batch, step)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        losses.append(float(outcome.figures["pixel" if name in ("deep", "tokenizer", "control") else "loss"]))
        if losses[-1] < losses[0] * until:
            break
    return losses


@pytest.fixture(scope="module")
def with_tokens():
    """A tiny model whose tokenizer has learned enough to use many codes."""
    torch.manual_seed(0)
    model = presets.build("tiny")
    run(model, "tokenizer", make_batch(), 60, 3e-3)
    batch = make_batch()
    with torch.no_grad():
        assert model.tokenizer.encode(batch.gt, model.guide(batch.lq)).unique().numel() >= 5
    return model


@pytest.fixture
def model(with_tokens):
    return copy.deepcopy(with_tokens)


def test_tokenizer_learns():
    losses = run(presets.build("tiny"), "tokenizer", make_batch(), 120, 3e-3, until=0.5)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deep", {}),
        ("deep", {"reduced_share": 1.0}),
        ("generator", {}),
        ("generator", {"mask_sampling": "paper"}),
        ("critic", {}),
        ("critic", {"critic_labels": "wrong", "mask_sampling": "paper"}),
        ("control", {"gan": 0.0}),
        ("control", {"gan": 0.0, "tune_decoder": False}),
        ("critic", {"critic_labels": "wrong", "critic_balance": True}),
    ],
)
def test_later_stages_learn(model, name, options):
    if name == "control":
        with torch.no_grad():
            model.tokenizer.post_quant_conv.bias.add_(3)  # something for it to mend
    losses = run(model, name, make_batch(), 160, 3e-3, until=0.6, **options)
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("name", "steps", "side"), [("tokenizer", 12, 128), ("generator", 8, 256), ("control", 8, 256)]
)
def test_the_papers_architecture_learns(name, steps, side):
    torch.manual_seed(0)
    losses = run(presets.build("tiny_paper"), name, make_batch(1, side), steps, 3e-3, until=0.5, gan=0.0)
    assert losses[-1] < losses[0] / 2


@pytest.mark.slow
def test_the_papers_critic_learns():
    losses = run(presets.build("tiny_paper"), "critic", make_batch(1, 256), 20, 3e-3)
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("name", list(LEARNS))
@pytest.mark.parametrize("tune_decoder", [True, False])
def test_only_the_intended_weights_move(model, name, tune_decoder):
    model.sync_codebook()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    buffers = {k for k, _ in model.named_buffers()}
    run(model, name, make_batch(), 3, 1e-3, tune_decoder=tune_decoder, gan=0.2 if name == "control" else 0.0)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    learns = ("control.",) if name == "control" and not tune_decoder else LEARNS[name]
    expected = {k for k in before if k.startswith(learns) and k not in buffers}
    assert moved == expected | (CODEBOOK if name == "tokenizer" else set())


@pytest.mark.parametrize("name", [name for name in LEARNS if name != "deep"])
def test_only_the_intended_weights_move_in_the_papers_architecture(name):
    model = presets.build("tiny_paper")
    stage = build_stage(model, name, tune_decoder=False, gan=0.0)
    learning = {k for k, p in model.named_parameters() if p.requires_grad}
    assert learning == {k for k, _ in model.named_parameters() if k.startswith(LEARNS[name][0])}
    main = {id(p) for p in stage.main.parameters() if p.requires_grad}
    assert main == {id(p) for k, p in model.named_parameters() if k in learning}


def test_a_model_without_a_deep_network_has_none_to_tune():
    with pytest.raises(UsageError, match="'tiny_paper' has no deep network"):
        build_stage(presets.build("tiny_paper"), "deep")


@pytest.mark.parametrize("preset", ["tiny", "tiny_paper"])
def test_untrained_control_changes_nothing(preset):
    model = presets.build(preset)
    build_stage(model, "control")
    batch = make_batch(1, 256)
    with torch.no_grad():
        guide = model.guide(batch.lq)
        ids = torch.randint(16, (1, 1024), generator=torch.Generator().manual_seed(0))
        plain = model.tokenizer.decode(model.tokenizer.lookup(model.grid(ids, guide)), guide)
        assert torch.equal(model.decode(ids, guide, fidelity=1.0), plain)


def test_the_papers_control_starts_from_the_encoder_unless_it_has_learned():
    model = presets.build("tiny_paper")
    own, theirs = model.control.encoder.state_dict(), model.tokenizer.encoder.state_dict()
    assert not all(torch.equal(own[k], theirs[k]) for k in own)
    build_stage(model, "control")
    assert all(torch.equal(own[k], theirs[k]) for k in own)
    with torch.no_grad():
        for p in model.control.parameters():
            p.add_(0.1)
    learned = {k: v.clone() for k, v in own.items()}
    build_stage(model, "control")
    assert all(torch.equal(own[k], learned[k]) for k in own)


def shares(sampling, count=3000, tokens=400):
    return draw_masks([7919 * n for n in range(count)], tokens, sampling).float().mean(1)


def test_the_papers_mask_ratio_is_one_minus_root_u():
    share = shares("paper").sort().values
    expected = 1 - (torch.arange(1, 3001) / 3000).flip(0).sqrt()  # the quantiles of 1 - sqrt(u)
    assert float((share - expected).abs().max()) < 0.03
    assert float(share.mean()) == pytest.approx(1 / 3, abs=0.015)
    assert int((share == 1).sum()) < 15


def test_a_quarter_is_masked_completely():
    share = shares("quarter_full")
    assert float((share == 1).float().mean()) == pytest.approx(0.25, abs=0.025)
    assert float(share[share < 1].mean()) == pytest.approx(1 / 3, abs=0.02)


def test_a_full_mask_is_full():
    assert draw_masks([1, 2], 64, "full").all()


def test_masks_hold_at_least_one_token_anywhere():
    masks = draw_masks(range(4000), 5, "paper")
    assert int(masks.sum(1).min()) == 1
    assert float((masks.sum(1) == 1).float().mean()) > 0.3
    share_N = draw_masks(range(4000), 20, "paper").float().mean(0)
    assert float((share_N - share_N.mean()).abs().max()) < 0.04  # no place is preferred


def test_a_mask_depends_on_its_own_seed_alone():
    both = draw_masks([5, 6], 64, "quarter_full")
    assert torch.equal(draw_masks([6], 64, "quarter_full")[0], both[1])
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize("labels", ["predicted", "wrong"])
@pytest.mark.parametrize("right", [True, False])
def test_critic_labels(model, monkeypatch, labels, right):
    """A generator that is always right, or always wrong; a critic that disbelieves exactly what was predicted."""
    batch = make_batch()
    with torch.no_grad():
        ids = model.tokenizer.encode(batch.gt, model.guide(batch.lq)).flatten(1)
    answer = ids if right else (ids + 1) % 16
    options = {"mask_sampling": "quarter_full", "critic_temperatures": (0.0, 0.0)}
    stage = build_stage(model, "critic", critic_labels=labels, **options)
    mask = draw_masks(batch.seeds, 64, "quarter_full")
    assert 0 < int(mask.sum()) < mask.numel()
    seen = []
    monkeypatch.setattr(model.generator, "forward", lambda given, cond, where: F.one_hot(answer, 16).float())
    monkeypatch.setattr(model.critic, "forward", lambda given, cond: seen.append(given) or 20.0 - 40.0 * mask)
    outcome = stage.main(batch, 0)
    assert torch.equal(seen[0], torch.where(mask, answer, ids))
    fake = mask if labels == "predicted" or not right else torch.zeros_like(mask)
    assert float(outcome.figures["fake"]) == pytest.approx(float(fake.float().mean()))
    if torch.equal(fake, mask):
        assert float(outcome.loss) < 1e-6
        assert float(outcome.figures["accuracy"]) == 1
    else:
        assert float(outcome.loss) > 1


def test_a_critic_of_distances_learns_where_the_image_is_far(model, monkeypatch):
    """An image that is its target on the right and noise on the left."""
    batch = make_batch()
    side = batch.gt.shape[-1] // 2
    image = batch.gt.clone()
    image[..., :side] = torch.rand(image[..., :side].shape, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(model, "decode", lambda ids, guide: image)
    stage = build_stage(model, "critic", critic_labels="far", perceptual_file=FEATURES, critic_balance=True)
    columns = model.grid(torch.arange(64)[None], model.guide(batch.lq)).flatten(1) % 8
    losses = {}
    for name, doubted in (("left", columns < 4), ("right", columns >= 4)):
        monkeypatch.setattr(model.critic, "forward", lambda ids, cond, d=doubted: (3.0 - 6.0 * d).expand(len(ids), -1))
        outcome = stage.main(batch, 0)
        losses[name] = float(outcome.loss)
        assert float(outcome.figures["fake"]) == pytest.approx(0.5)  # ranks from 0 to 1
        assert float(outcome.figures["accuracy"]) == pytest.approx(float(name == "left"), abs=0.2)
    assert losses["left"] < losses["right"] / 2
    with pytest.raises(UsageError, match="--perceptual-file"):
        build_stage(model, "critic", critic_labels="far")


def test_generator_is_judged_on_masked_tokens_only(model, monkeypatch):
    batch = make_batch()
    with torch.no_grad():
        ids = model.tokenizer.encode(batch.gt, model.guide(batch.lq)).flatten(1)
    mask = draw_masks(batch.seeds, 64, "quarter_full")
    logits = F.one_hot(torch.where(mask, ids, (ids + 1) % 16), 16).float() * 30  # right where masked, wrong elsewhere
    stage = build_stage(model, "generator")
    monkeypatch.setattr(model.generator, "forward", lambda given, cond, where: logits)
    outcome = stage.main(batch, 0)
    assert float(outcome.loss) < 1e-6
    assert float(outcome.figures["accuracy"]) == 1
    assert float(outcome.figures["masked"]) == pytest.approx(float(mask.float().mean()))


def test_the_critic_meets_tokens_of_every_temperature():
    logits = torch.tensor([4.0, 3.0, 0.0, -9.0]).expand(400, 50, 4)
    seeds = range(1000, 1400)
    assert torch.equal(sample(logits, seeds, (0.0, 0.0)), logits.argmax(-1))
    drawn = sample(logits, seeds, (0.0, 2.0))
    for other in range(3):  # a sample depends on its own seed alone
        assert torch.equal(sample(logits[:1], [1000 + other], (0.0, 2.0))[0], drawn[other])
    share = torch.stack([(drawn == code).float().mean() for code in range(4)])
    grid = ((torch.arange(400) + 0.5) / 200)[:, None]  # temperatures of U(0, 2)
    torch.testing.assert_close(share, (logits[0, 0] / grid).softmax(1).mean(0), rtol=0, atol=0.02)
    best = (drawn == 0).float().mean(1)
    assert float(best.max()) == 1  # cold
    assert float(best.min()) < 0.7  # hot


def test_the_critic_starts_from_the_generator_unless_it_has_learned(model):
    def backbones():
        return model.generator.backbone.state_dict(), model.critic.backbone.state_dict()

    def equal():
        generator, critic = backbones()
        return all(torch.equal(generator[k], critic[k]) for k in critic)

    model.sync_codebook()
    assert not equal()
    build_stage(model, "critic", critic_init="random")
    assert not equal()
    after = {"stages": [{"stage": "generator"}, {"stage": "critic"}, {"stage": "control"}]}
    for provenance in ({"stages": [{"stage": "critic"}]}, after, {"converted_from": "net_g.pth"}):
        model.info = CheckpointInfo(provenance=provenance)
        build_stage(model, "critic")
        assert not equal()
    model.info = CheckpointInfo(provenance={"stages": [{"stage": "critic"}, {"stage": "generator"}]})
    build_stage(model, "critic")
    assert equal()
    generator, critic = backbones()
    assert all(generator[k].data_ptr() != critic[k].data_ptr() for k in critic)  # a copy, not the same


def test_the_critic_learns_without_the_map_fitted_to_an_older_one(model):
    model.critic.gain.data.fill_(2.0)
    model.critic.knots[1] += 1
    model.info = CheckpointInfo(provenance={"stages": [{"stage": "critic"}], "confidence": {"pairs": 9}})
    build_stage(model, "critic")
    assert torch.equal(model.critic.knots, straight())
    assert float(model.critic.gain) == 2
    assert "confidence" not in model.info.provenance


@pytest.mark.parametrize("kind", ["patch", "patch_sn", "unet", "projected"])
@pytest.mark.parametrize("name", ["tokenizer", "control"])
def test_adversary_and_model_learn_apart(model, name, kind):
    stage = build_stage(model, name, gan=0.5, discriminator=kind, perceptual_file=FEATURES, perceptual_views=True)
    assert stage.adversary is not None
    assert not any(p is q for p in stage.main.parameters() for q in stage.adversary.parameters())
    outcome = stage.main(make_batch(), 0)
    outcome.loss.backward()
    assert float(outcome.figures["gan_weight"]) > 0
    assert all(p.grad is None for p in stage.adversary.parameters())
    model.zero_grad(set_to_none=True)
    stage.adversary(*outcome.images).loss.backward()
    learning = list((stage.adversary.net.heads if kind == "projected" else stage.adversary).parameters())
    assert all(p.grad is not None for p in learning)
    assert sum(p.requires_grad for p in stage.adversary.parameters()) == len(learning)  # features stay as they are
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["patch", "patch_sn", "unet", "projected"])
def test_an_adversary_learns_to_tell(kind):
    torch.manual_seed(0)
    config = make_config("control", max_steps=1, init=Path("x"), discriminator=kind, perceptual_file=FEATURES)
    adversary = Adversary(config)
    real = waves(2, 32)
    fake = F.interpolate(F.avg_pool2d(real, 8), scale_factor=8.0)
    optimizer = torch.optim.AdamW(adversary.parameters(), lr=config.discriminator_lr * 2)
    losses = []
    for _ in range(60):
        judged = adversary(real, fake)
        optimizer.zero_grad()
        judged.loss.backward()
        optimizer.step()
        losses.append(float(judged.loss.detach()))
        if losses[-1] < losses[0] / 2:
            break
    assert losses[-1] < losses[0] / 2
    assert judged.figures["d_real"] > judged.figures["d_fake"]


def test_a_projected_adversary_sees_what_the_perceptual_loss_sees(model, monkeypatch):
    """The same views, the same offsets: else it would teach the model a weave that only its strides like."""
    stage = build_stage(
        model, "control", gan=0.5, discriminator="projected", perceptual_file=FEATURES, perceptual_views=True
    )
    shown = []
    monkeypatch.setattr(common, "squeeze_distance", lambda _, x, y, __: shown.append((x, y)) or x.flatten(1).mean(1))
    batch = make_batch()
    for step in range(3):
        real, fake = stage.main(batch, step).images
        image, target = shown[-1]
        assert torch.equal(fake, image)
        assert torch.equal(real, target)
    assert len({float(y.detach().mean()) for _, y in shown}) == 3
    with pytest.raises(UsageError, match="--perceptual-file"):
        Adversary(make_config("control", max_steps=1, init=Path("x"), discriminator="projected"))


def test_the_adversarial_weight_is_the_ratio_of_gradients(model):
    stage = build_stage(model, "control", gan=0.5, tune_decoder=False)
    with torch.no_grad():
        model.control.zero_out.weight.normal_(0, 0.1)
    batch = make_batch()
    outcome = stage.main(batch, 0)
    last = model.control.zero_out.weight
    gan = hinge_g_loss(stage.adversary.net.eval()(outcome.images[1]))
    parts = [torch.autograd.grad(x, last, retain_graph=True)[0] for x in (charbonnier(*outcome.images).mean(), gan)]
    torch.testing.assert_close(outcome.figures["gan_weight"], 0.5 * adaptive_weight(*parts), rtol=0.02, atol=0)
    total = outcome.figures["pixel"] + outcome.figures["gan_weight"] * outcome.figures["gan"]
    torch.testing.assert_close(outcome.loss, total)


def test_the_adversary_waits_for_its_start(model):
    stage = build_stage(model, "control", gan=0.5, gan_start=3)
    assert stage.main(make_batch(), 2).images is None
    assert stage.main(make_batch(), 3).images is not None
    assert build_stage(model, "control", gan=0.0).adversary is None


def test_dropped_tokens_and_dropped_control(model):
    batch = make_batch()
    model.sync_codebook()
    with torch.no_grad():
        model.control.zero_out.weight.normal_(0, 1)
        guide = model.guide(batch.lq)
        empty = torch.zeros(2, model.config.tokenizer.quantizer.dim, 8, 8)
        without_tokens = model.tokenizer.decode(model.tokenizer.post_quant_conv(empty), guide)
        steered = model.super_resolve(batch.lq, want_confidence=False)
        without_control = model.decode(steered.ids.flatten(1), guide, fidelity=0.0)
        assert float((steered.image - without_control).abs().max()) > 0.01
    for name, options, expected in (
        ("control", {"control_drop": 1.0}, without_control),
        ("control", {"control_drop": 0.0}, steered.image),
        ("tokenizer", {"token_drop": 1.0}, without_tokens),
    ):
        outcome = build_stage(model, name, gan=0.1, **options).main(batch, 0)
        torch.testing.assert_close(outcome.images[1], expected)


def test_the_tokenizer_stage_does_not_tokenise_the_input(monkeypatch):
    model = presets.build("tiny_paper")
    stage = build_stage(model, "tokenizer")
    monkeypatch.setattr(model.tokenizer, "encode", lambda *a: pytest.fail("work for nothing"))
    stage.main(make_batch(1, 64), 0)


def test_perceptual_loss_from_a_file(tmp_path, model):
    from safetensors.torch import save_file

    save_file(dict(SqueezeFeatures().state_dict()), tmp_path / "features.safetensors")
    stage = build_stage(model, "control", gan=0.0, perceptual_file=tmp_path / "features.safetensors", perceptual=0.5)
    outcome = stage.main(make_batch(), 0)
    torch.testing.assert_close(outcome.loss, outcome.figures["pixel"] + 0.5 * outcome.figures["perceptual"])
    assert float(outcome.figures["perceptual"]) > 0
    assert "perceptual" not in build_stage(model, "control", gan=0.0).main(make_batch(), 0).figures


def test_alone_a_process_weighs_one():
    assert float(weight_of_part(torch.tensor(37), torch.tensor(37))) == 1.0


def test_severity_is_none_for_a_clean_input_and_full_for_a_ruined_one():
    batch = make_batch(2, 64)
    torch.testing.assert_close(severity(batch.lq, batch.gt), torch.zeros(2), rtol=0, atol=1e-3)
    smooth = F.interpolate(F.avg_pool2d(batch.gt, 16), scale_factor=16.0, mode="bicubic")
    noisy = F.interpolate(smooth, scale_factor=0.25, mode="bicubic", antialias=True)
    noisy = noisy + 0.2 * torch.randn(noisy.shape, generator=torch.Generator().manual_seed(0))
    assert float(severity(noisy, smooth).min()) == 1


@pytest.mark.parametrize(("weight", "clean"), [(5.0, True), (5.0, False), (1.0, True)])
def test_clean_inputs_can_weigh_more_in_the_pixel_loss(model, weight, clean):
    batch = make_batch(2, 64)
    lq = batch.lq if clean else batch.lq + 0.3 * torch.randn(batch.lq.shape, generator=torch.Generator().manual_seed(0))
    main = build_stage(model, "control", clean_pixel=weight, gan=0.0).main
    outcome = main.image_loss(batch.gt * 0.9, batch.gt, lq, model.control.zero_out.weight, 0)
    pixel = float(charbonnier(batch.gt * 0.9, batch.gt).mean())
    assert float(outcome.figures["pixel"]) == pytest.approx(pixel)
    assert float(outcome.loss) == pytest.approx(pixel * (weight if clean else 1), rel=2e-3)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_clean_inputs_ask_for_less_detail(tmp_path, model, share):
    from safetensors.torch import save_file

    save_file(dict(SqueezeFeatures().state_dict()), tmp_path / "features.safetensors")
    options = {"perceptual_file": tmp_path / "features.safetensors", "perceptual": 0.5, "gan": 0.0}
    outcome = build_stage(model, "control", clean_share=share, **options).main(make_batch(), 0)
    expected = outcome.figures["pixel"] + 0.5 * share * outcome.figures["perceptual"]
    torch.testing.assert_close(outcome.loss, expected, rtol=0, atol=1e-3)


def test_the_perceptual_loss_meets_other_offsets_in_other_steps(tmp_path, model, monkeypatch):
    from safetensors.torch import save_file

    save_file(dict(SqueezeFeatures().state_dict()), tmp_path / "features.safetensors")
    stage = build_stage(model, "control", gan=0.0, perceptual_file=tmp_path / "features.safetensors")
    shapes = set()

    def spy(features, x, y, taps):
        assert x.shape == y.shape
        shapes.add(tuple(x.shape[2:]))
        return x.new_zeros(len(x))

    monkeypatch.setattr(common, "squeeze_distance", spy)
    for step in range(60):
        stage.main.image_loss(*[make_batch().gt] * 2, make_batch().lq, model.control.zero_out.weight, step)
    rows = {height for height, _ in shapes}
    assert rows == set(range(57, 65))
    assert len(shapes) > 25  # rows and columns are drawn apart


def test_the_perceptual_loss_can_see_both_images_otherwise_in_every_step(model, monkeypatch):
    stage = build_stage(model, "control", gan=0.0, perceptual_file=FEATURES, perceptual_views=True, perceptual_shift=0)
    seen, gt = [], make_batch().gt
    monkeypatch.setattr(common, "squeeze_distance", lambda _, x, y, __: seen.append((x, y)) or x.mean((1, 2, 3)))
    for step in (*range(40), 0):
        stage.main.image_loss(gt, gt, make_batch().lq, model.control.zero_out.weight, step)
    assert all(torch.equal(x, y) for x, y in seen)  # one change for both
    assert torch.equal(seen[0][0], seen[-1][0])  # by the step alone
    sizes = {x.shape[-1] for x, _ in seen}
    assert min(sizes) >= round(0.6 * 64)
    assert max(sizes) <= 96
    assert len(sizes) > 8
    means = {tuple(x[0].mean((1, 2)).tolist()) for x, _ in seen}
    assert len(means) == 40  # other colours each time
    image = gt.clone().requires_grad_()
    stage.main.image_loss(image, gt, make_batch().lq, model.control.zero_out.weight, 3).loss.backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_the_perceptual_loss_is_the_distance_over_its_taps(model):
    taps, gt = ("conv1", "fire3"), make_batch().gt
    loss = build_stage(model, "control", gan=0.0, perceptual_file=FEATURES, perceptual_taps=taps).main.image_loss
    found = loss(gt.flip(2), gt, make_batch().lq, model.control.zero_out.weight, 5).figures["perceptual"]
    seen = loss._seen(gt.flip(2), gt, 5)
    torch.testing.assert_close(found, squeeze_distance(load_squeeze_features(FEATURES), *seen, taps).mean())
    with pytest.raises(UsageError, match="fire4"):
        build_stage(model, "control", perceptual_taps=("fire4",))


def test_balanced_classes_weigh_the_same(model, monkeypatch):
    batch = make_batch()
    with torch.no_grad():
        ids = model.tokenizer.encode(batch.gt, model.guide(batch.lq)).flatten(1)
    options = {"critic_labels": "wrong", "critic_temperatures": (0.0, 0.0), "mask_sampling": "quarter_full"}
    stage = build_stage(model, "critic", critic_balance=True, **options)
    monkeypatch.setattr(model.generator, "forward", lambda *_, **__: F.one_hot((ids + 1) % 16, 16).float())
    for disbelief in (2.0, -2.0):  # the same loss for any constant and its opposite, however few are wrong
        monkeypatch.setattr(model.critic, "forward", lambda given, cond, d=disbelief, **_: torch.full(given.shape, -d))
        outcome = stage.main(batch, 0)
        expected = 0.5 * (F.softplus(torch.tensor(2.0)) + F.softplus(torch.tensor(-2.0)))
        torch.testing.assert_close(outcome.loss, expected)
    assert 0 < float(outcome.figures["fake"]) < 1
