import pytest
import torch

from realsrt.sampling import SCHEDULES, confidence_decode
from realsrt.sampling.confidence import least_confident
from realsrt.sampling.schedules import masked_count

VOCABULARY = 7


class Fake:
    """Predicts (position + call) mod V and is surer of later positions; remembers what it was asked."""

    def __init__(self) -> None:
        self.masks: list[torch.Tensor] = []
        self.inputs: list[torch.Tensor] = []
        self.scored = 0

    def predict(self, ids, mask):
        self.masks.append(mask.clone())
        self.inputs.append(ids.clone())
        choice = (torch.arange(ids.shape[1]) + len(self.masks)) % VOCABULARY
        return torch.nn.functional.one_hot(choice, VOCABULARY).float().expand(len(ids), -1, -1)

    def score(self, ids):
        self.scored += 1
        return torch.arange(ids.shape[1]).float().expand(len(ids), -1)


def run(fake, tokens=1024, batch=2, **options):
    blank = torch.full((batch, tokens), VOCABULARY)
    return list(confidence_decode(fake.predict, fake.score, blank, **{"num_steps": 4} | options))


def test_the_papers_four_steps_mask_1024_512_299_137():
    fake = Fake()
    run(fake)
    assert [m.sum(1).tolist() for m in fake.masks] == [[1024] * 2, [512] * 2, [299] * 2, [137] * 2]


def test_the_least_confident_positions_are_redone_and_the_others_kept():
    fake = Fake()
    steps = run(fake)
    first, second = steps[0], steps[1]
    assert first.mask[0, :512].all()
    assert not first.mask[0, 512:].any()
    torch.testing.assert_close(second.ids[:, 512:], first.ids[:, 512:])
    assert (second.ids[:, :512] != first.ids[:, :512]).all()
    assert not steps[-1].mask.any()
    torch.testing.assert_close(fake.inputs[1], first.ids)


def test_no_position_is_left_open():
    for step in run(Fake(), num_steps=3):
        assert (step.ids < VOCABULARY).all()


@pytest.mark.parametrize("num_steps", [1, 2, 5, 8])
def test_the_last_critic_pass_runs_only_on_demand(num_steps):
    with_it, without = Fake(), Fake()
    a, b = run(with_it, num_steps=num_steps), run(without, num_steps=num_steps, last_confidence=False)
    assert (with_it.scored, without.scored) == (num_steps, num_steps - 1)
    assert a[-1].confidence is not None
    assert b[-1].confidence is None
    torch.testing.assert_close(a[-1].ids, b[-1].ids)


def test_positions_outside_a_given_mask_are_never_touched():
    fake = Fake()
    mask = torch.zeros(2, 100, dtype=torch.bool)
    mask[:, 40:60] = True
    ids = torch.zeros(2, 100, dtype=torch.long)
    steps = list(confidence_decode(fake.predict, fake.score, ids, num_steps=4, mask_BN=mask))
    for step in steps:
        assert (step.ids[~mask] == 0).all()
        assert not (step.mask & ~mask).any()
    assert [int(m[0].sum()) for m in fake.masks] == [20, 10, 5, 2]


def test_ties_go_to_the_earlier_position():
    mask = least_confident(torch.zeros(1, 6), 2)
    assert mask.tolist() == [[True, True, False, False, False, False]]


def test_temperature_samples_by_the_seed_and_follows_the_distribution():
    logits = torch.tensor([0.7, 0.2, 0.1]).log().expand(1, 20000, 3)

    def sample(seed):
        rng = torch.Generator().manual_seed(seed)
        decode = confidence_decode(
            lambda *_: logits,
            lambda ids: ids.float(),
            torch.zeros(1, 20000, dtype=torch.long),
            num_steps=1,
            temperature=1.0,
            rng=rng,
        )
        return next(decode).ids

    torch.testing.assert_close(sample(1), sample(1))
    assert (sample(1) != sample(2)).any()
    share = torch.bincount(sample(3)[0], minlength=3) / 20000
    torch.testing.assert_close(share, torch.tensor([0.7, 0.2, 0.1]), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_fall_from_one_to_nothing(name):
    counts = [masked_count(SCHEDULES[name], 1000, t, 10) for t in range(11)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 1000
    assert counts[-1] == 0


def test_zero_steps_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        run(Fake(), num_steps=0)


def test_rows_that_are_confident_enough_are_left_as_they_are():
    fake = Fake()
    steps = run(fake, batch=3, should_stop=lambda confidence: torch.tensor([False, len(fake.masks) > 1, True]))
    assert [m.any(1).tolist() for m in fake.masks] == [[True] * 3, [True, True, False], [True, False, False],
                                                       [True, False, False]]  # fmt: skip
    torch.testing.assert_close(steps[3].ids[2], steps[0].ids[2])
    torch.testing.assert_close(steps[3].ids[1], steps[1].ids[1])
    assert (steps[3].ids[0] != steps[1].ids[0]).any()


def test_when_all_rows_are_confident_the_step_is_the_last():
    fake = Fake()
    steps = run(fake, should_stop=lambda confidence: torch.ones(2, dtype=torch.bool))
    assert len(steps) == len(fake.masks) == fake.scored == 1
    assert not steps[0].mask.any()


def test_each_row_has_its_own_count_of_open_positions():
    fake = Fake()
    mask = torch.zeros(2, 100, dtype=torch.bool)
    mask[0, :40] = mask[1, 60:70] = True
    run(fake, tokens=100, mask_BN=mask)
    assert [m.sum(1).tolist() for m in fake.masks] == [[40, 10], [20, 5], [11, 2], [5, 1]]


def test_top_k_leaves_only_the_likeliest():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(1, 5000, 4)
    blank = torch.zeros(1, 5000, dtype=torch.long)

    def drawn(top_k):
        rng = torch.Generator().manual_seed(0)
        decode = confidence_decode(
            lambda *_: logits, lambda ids: ids.float(), blank, num_steps=1, temperature=1.0, top_k=top_k, rng=rng
        )
        return torch.bincount(next(decode).ids[0], minlength=4) / 5000

    assert drawn(2)[2:].sum() == 0
    torch.testing.assert_close(drawn(2)[:2], torch.tensor([0.625, 0.375]), atol=0.03, rtol=0)
    assert drawn(1)[0] == 1
    torch.testing.assert_close(drawn(9), drawn(None))


def test_noise_shuffles_the_order_and_less_so_towards_the_end():
    def surprises(temperature):
        fake = Fake()
        rng = torch.Generator().manual_seed(0)
        run(fake, batch=1, temperature=temperature, rng=rng)
        return [int(m[0, int(m.sum()) :].sum()) for m in fake.masks[1:]]

    assert surprises(0.0) == [0, 0, 0]
    first, second, third = surprises(30.0)
    assert first > second > third > 0
