import threading
import time

import numpy as np
import pytest
import torch

from realsrt.errors import ImageError, RealSRTError
from realsrt.server import maker
from realsrt.server import worker as parts
from realsrt.server.service import Service


class Batches:
    """The tiny model as if it were on a GPU: knows which pictures came together."""

    device = torch.device("cuda:0")

    def __init__(self, up, broken=None):
        self.model, self.precision, self._up, self.together, self._broken = up.model, up.precision, up, [], broken

    def upscale(self, *args, **more):
        return self._up.upscale(*args, **more)

    def stream(self, *args, **more):
        return self._up.stream(*args, **more)

    def upscale_many(self, pictures, options, *, return_errors):
        self.together.append([])
        for picture in pictures:
            self.together[-1].append((picture.width, options.fidelity))
            if picture.width == self._broken:
                yield ImageError("cannot be computed")
            else:
                yield self._up.upscale(picture, options)


def held(here):
    """Jobs wait until the returned function is called."""
    store = here.service.store
    take = type(store).take
    return lambda: setattr(store, "take", lambda most=1: take(store, most))


def results(here, ids):
    jobs = [here.ended(id) for id in ids]
    assert [job["state"] for job in jobs] == ["done"] * len(jobs), jobs
    return [here.http.get(f"/v1/jobs/{id}/result").content for id in ids]


@pytest.mark.parametrize("broken", [None, 12])
def test_jobs_that_ask_for_the_same_are_taken_together(opened, picture, up, broken):
    batches = Batches(up, broken)
    here = opened(upscaler=batches, working=False)
    sources = [picture(f"{width}.png", 10, width) for width in range(10, 16)]
    fidelities = [1, 1, 0.5, 1, 0.5, 1]
    ids = [here.post(source, fidelity=f).json()["id"] for source, f in zip(sources, fidelities, strict=True)]
    text = here.http.post("/v1/jobs", content=sources[0].read_bytes()[:-30]).json()["id"]  # cut short
    held(here)()
    if broken:
        assert here.ended(ids.pop(2))["error"] == "cannot be computed"
        del sources[2], fidelities[2]
    found = results(here, ids)
    assert here.ended(text)["state"] == "failed"
    assert batches.together == [[(10, 1), (11, 1), (13, 1), (15, 1)], [(12, 0.5), (14, 0.5)]]
    alone = []
    for source, fidelity in zip(sources, fidelities, strict=True):
        alone.append(up.upscale(source, fidelity=fidelity).image.pixels)
    for content, pixels in zip(found, alone, strict=True):
        path = here.service.store.root / "made.png"
        path.write_bytes(content)
        from realsrt.io import image as imageio

        assert (imageio.read(path).pixels == pixels).all()


def test_options_that_the_model_does_not_allow_any_more(opened, picture, up, monkeypatch):
    """Of jobs that have waited while the service got another model."""
    monkeypatch.setattr(Service, "_check_work", lambda *_: None)
    batches = Batches(up)
    monkeypatch.setattr(batches, "upscale_many", up.upscale_many)
    here = opened(upscaler=batches, working=False)
    ids = [here.post(picture(f"{width}.png", 10, width), stride=7).json()["id"] for width in (10, 11, 12)]
    held(here)()
    for id in ids:
        assert here.ended(id)["error"].startswith("stride must be a multiple of")


def test_large_images_are_computed_row_by_row_whatever_they_come_with(opened, picture, up, monkeypatch):
    monkeypatch.setattr(maker, "PREVIEW_PIXELS", 120)
    batches, alone = Batches(up), []
    monkeypatch.setattr(
        batches,
        "upscale",
        lambda image, *a, **k: alone.append((image.width, "rows" in k)) or up.upscale(image, *a, **k),
    )
    here = opened(upscaler=batches, working=False)
    ids = [here.post(picture(f"{width}.png", 10, width)).json()["id"] for width in (20, 11, 30, 12)]
    held(here)()
    results(here, ids)
    assert batches.together == [[(11, 1), (12, 1)]]
    assert alone == [(20, True), (30, True)]


def test_on_the_cpu_one_at_a_time(opened, picture, up):
    here = opened(working=False)
    asked = []
    here.service.store.take = lambda most=1: asked.append(most) or []
    time.sleep(0.05)
    here.service.worker.wake()
    time.sleep(0.1)
    assert set(asked) == {1}


def test_stopping_puts_the_current_job_back(opened, picture, monkeypatch):
    monkeypatch.setattr(parts, "GRACE", 0.0)
    here = opened()
    begun, go_on = threading.Event(), threading.Event()
    follow = here.service.live.follow

    def slow(id):
        tell = follow(id)

        def told(share):
            tell(share)
            begun.set()
            go_on.wait(10)

        return told

    here.service.live.follow = slow
    id = here.post(picture("a.png", 80, 80)).json()["id"]
    assert begun.wait(10)
    here.service.worker.stop(0.0)
    go_on.set()
    here.service.worker.join(10)
    record = here.service.store.get(id)
    assert (record.state, record.attempts) == ("queued", 0)
    assert here.service.store.input(id).is_file()
    assert here.service.unready


def test_a_problem_of_the_store_does_not_end_the_worker(opened, picture):
    here = opened(working=False)
    calls = []

    def broken(most=1):
        calls.append(1)
        raise OSError(5, "Input/output error")

    here.service.store.take = broken
    here.service.worker.wake()
    until = time.monotonic() + 5
    while not calls and time.monotonic() < until:
        time.sleep(0.01)
    assert here.service.worker.is_alive()
    held(here)()
    assert here.ended(here.post(picture()).json()["id"])["state"] == "done"


def test_unexpected_problems_are_named(opened, picture, monkeypatch, up):
    here = opened()

    def broken(*_, **__):
        raise RuntimeError("an\nodd thing")

    monkeypatch.setattr(here.service.worker._maker, "_compute", broken)
    job = here.ended(here.post(picture()).json()["id"])
    assert (job["state"], job["error"]) == ("failed", "unexpected RuntimeError: an odd thing")


def test_previews_of_all_kinds():
    from realsrt.io.picture import Picture
    from realsrt.io.preview import jpeg

    for shape, kind in [((3, 3, 1), np.uint8), ((900, 40, 4), np.uint16), ((40, 2000, 3), np.float32)]:
        assert jpeg(Picture.from_array(np.zeros(shape, kind)))[:2] == b"\xff\xd8"
    import pyvips

    small = pyvips.Image.jpegload_buffer(jpeg(Picture.from_array(np.zeros((100, 3000, 3), np.uint8))))
    assert max(small.width, small.height) <= 512


def test_while_nothing_can_compute_jobs_wait_and_it_is_said(opened, picture, monkeypatch):
    here = opened()
    run, calls = here.service.worker._maker.run, []

    def broken(*args):
        calls.append(1)
        raise RealSRTError("the weights are gone")

    monkeypatch.setattr(here.service.worker._maker, "run", broken)
    id = here.post(picture()).json()["id"]
    until = time.monotonic() + 30
    while len(calls) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    answer = here.http.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the weights are gone")
    monkeypatch.setattr(here.service.worker._maker, "run", run)
    assert here.ended(id)["state"] == "done"
    assert here.service.store.get(id).attempts == 1
    while here.http.get("/readyz").status_code != 200:
        assert time.monotonic() < until
