import pytest
import torch

pytest.importorskip("accelerate")

from realsrt.training import throughput
from realsrt.training.throughput import StepWork, matmul_peak

CPU = torch.device("cpu")


def work(layer, counter, **options):
    with counter.counting(**options):
        layer(torch.zeros(4, 8)).sum().backward()


@pytest.fixture(autouse=True)
def peak(monkeypatch):
    monkeypatch.setattr(throughput, "matmul_peak", lambda device, dtype, seconds=0.2: 1e11 if seconds == 0.2 else 5e11)


def test_one_step_is_counted_and_a_joining_discriminator_again():
    layer = torch.nn.Linear(8, 8, bias=False)
    counter = StepWork(CPU, "no", batch=4, processes=2, wanted=True)
    assert counter.figures(3.0) == {"steps_per_second": 3.0, "samples_per_second": 24.0}
    work(layer, counter)
    once = counter.flops
    assert once == 2 * (2 * 4 * 8 * 8)  # the input needs no gradient
    work(torch.nn.Linear(8, 80), counter)
    assert counter.flops == once
    work(torch.nn.Linear(8, 80), counter, learning="a discriminator, too")
    assert counter.flops > 5 * once
    found = counter.figures(10.0)
    assert found["tflops"] == pytest.approx(counter.flops * 10 * 2 / 1e12)
    assert found["share_of_peak"] == pytest.approx(counter.flops * 10 / 1e11)


def test_a_peak_below_what_is_reached_is_measured_again():
    counter = StepWork(CPU, "no", batch=1, processes=1, wanted=True)
    counter.flops = int(2e11)
    assert counter.figures(1.0)["share_of_peak"] == pytest.approx(0.4)
    assert counter.figures(0.1)["share_of_peak"] == pytest.approx(0.04)


def test_unwanted_costs_nothing():
    counter = StepWork(CPU, "no", batch=4, processes=1, wanted=False)
    work(torch.nn.Linear(8, 8), counter)
    assert counter.flops == counter.peak == 0
    assert set(counter.figures(1.0)) == {"steps_per_second", "samples_per_second"}


def test_the_peak_is_plausible_and_draws_no_random_numbers():
    before = torch.get_rng_state()
    peak = matmul_peak.__wrapped__("cpu", torch.float32, 0.05)
    assert 1e8 < peak < 1e14
    assert torch.equal(torch.get_rng_state(), before)
