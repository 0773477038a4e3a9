import math
from dataclasses import replace

import pytest
import torch

from realsrt.models.heads import KNOTS, CodeCritic, Critic, Generator, straight
from realsrt.models.transformer import TransformerConfig

PAPER = TransformerConfig(codes=16, code_dim=8, width=32, heads=2, head_dim=16, depth=2, condition_depth=1, grid=4)
OURS = replace(PAPER, condition="features", condition_dim=12, injection="add", position="rope", condition_depth=0)


def generator(config, seed=0):
    torch.manual_seed(seed)
    head = Generator(config)
    head.backbone.set_codebook(torch.randn(17, 8))
    return head.eval()


def condition(head, batch=2, grid=(4, 4), seed=1):
    rng = torch.Generator().manual_seed(seed)
    if head.backbone.config.condition == "tokens":
        return head.backbone.condition(torch.randint(16, (batch, math.prod(grid)), generator=rng), grid)
    return head.backbone.condition(torch.randn(batch, math.prod(grid), 12, generator=rng), grid)


@pytest.mark.parametrize("config", [PAPER, OURS])
def test_logits_depend_on_tokens_condition_and_place(config):
    head = generator(config)
    ids, mask = torch.randint(16, (2, 16)), torch.zeros(2, 16, dtype=torch.bool)
    cond = condition(head)
    logits = head(ids, cond, mask)
    assert logits.shape == (2, 16, 16)
    other = ids.clone()
    other[:, 3] = (other[:, 3] + 1) % 16
    assert (head(other, cond, mask)[:, 7] - logits[:, 7]).abs().max() > 1e-6  # attention carries it elsewhere
    assert (head(ids, condition(head, seed=2), mask) - logits).abs().max() > 1e-4
    same = torch.zeros_like(ids)
    spread = head(same, condition(head, seed=3), mask)
    assert (spread[:, 0] - spread[:, 5]).abs().max() > 1e-5


@pytest.mark.parametrize("config", [PAPER, OURS])
def test_a_masked_position_hides_its_token(config):
    head = generator(config)
    cond = condition(head)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 5] = True
    a, b = torch.randint(16, (2, 16)), None
    b = a.clone()
    b[:, 5] = 16
    torch.testing.assert_close(head(a, cond, mask), head(b, cond, mask))


def test_the_condition_is_worked_out_once_and_reused():
    head = generator(PAPER)
    calls = []
    head.backbone.condition_blocks[0].register_forward_hook(lambda *_: calls.append("stream"))
    for block in head.backbone.blocks:
        block.cross_attn.to_kv.register_forward_hook(lambda *_: calls.append("kv"))
    cond = condition(head)
    for _ in range(3):
        head(torch.zeros(2, 16, dtype=torch.long), cond, torch.ones(2, 16, dtype=torch.bool))
    assert calls == ["stream", "kv", "kv"]


def test_a_table_of_positions_fits_one_grid_and_rotation_any():
    for grid in ((3, 3), (2, 8)):
        with pytest.raises(ValueError, match="4x4 tokens, not"):
            condition(generator(PAPER), grid=grid)
    head = generator(OURS)
    ids, mask = torch.zeros(1, 24, dtype=torch.long), torch.ones(1, 24, dtype=torch.bool)
    logits = [head(ids, condition(head, 1, grid), mask) for grid in ((4, 6), (6, 4))]
    assert logits[0].shape == (1, 24, 16)
    assert (logits[0] - logits[1]).abs().max() > 1e-5  # the same tokens in other places


def test_confidence_is_the_negative_logit():
    torch.manual_seed(0)
    critic = Critic(replace(PAPER, masked_input=False)).eval()
    critic.backbone.set_codebook(torch.randn(17, 8))
    ids = torch.randint(16, (1, 16))
    cond = condition(critic, 1)
    logit = critic.to_logit(critic.backbone(ids, cond))[..., 0]
    torch.testing.assert_close(critic(ids, cond), -logit)
    assert "backbone.mask_token" not in critic.state_dict()
    assert torch.equal(critic.confidence(logit), logit.sigmoid())


def test_the_code_critic_scores_how_much_likelier_than_chance_a_token_is():
    torch.manual_seed(0)
    critic = CodeCritic(replace(OURS, masked_input=False)).eval()
    critic.backbone.set_codebook(torch.randn(17, 8))
    ids = torch.randint(16, (2, 16))
    cond = condition(critic)
    p = critic.to_logits(critic.backbone(ids, cond)).softmax(-1).gather(-1, ids[..., None])[..., 0]
    torch.testing.assert_close(critic(ids, cond), (16 * p).log())
    critic.gain.data.fill_(2.0)
    critic.shift.data.fill_(-1.0)
    torch.testing.assert_close(critic(ids, cond), 2 * (16 * p).log() - 1)


def code_critic():
    return CodeCritic(replace(OURS, masked_input=False))


def test_a_new_critics_confidence_is_the_sigmoid_of_its_score_to_the_last_bit():
    score = torch.randn(3, 1000) * 8
    assert torch.equal(code_critic().confidence(score), score.sigmoid())


def test_confidence_follows_the_knots_and_never_falls():
    critic = code_critic()
    at, to = straight()
    at[1:-1] = torch.linspace(-2, 3, KNOTS - 2)
    to[1:-1] = torch.linspace(-0.5, 4, KNOTS - 2) + 0.3 * torch.rand(KNOTS - 2).cumsum(0)
    critic.knots.copy_(torch.stack([at, to]))
    torch.testing.assert_close(critic.confidence(at), to.sigmoid())
    middle = (at[1:] + at[:-1]) / 2
    torch.testing.assert_close(critic.confidence(middle), ((to[1:] + to[:-1]) / 2).sigmoid())
    score = torch.linspace(-6, 6, 2001)
    assert (critic.confidence(score).diff() > 0).all()
    torch.testing.assert_close(critic.confidence(torch.tensor([-40.0, 40.0])), torch.tensor([0.0, 1.0]))


def test_weights_without_knots_load_as_the_straight_map():
    critic = code_critic()
    critic.knots[1] += 1
    old = {key: value for key, value in code_critic().state_dict().items() if key != "knots"}
    critic.load_state_dict(old)
    assert torch.equal(critic.knots, straight())
