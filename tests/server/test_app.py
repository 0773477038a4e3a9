import asyncio
import base64
import errno
import json
import sqlite3
import threading
import time

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from realsrt.cli import main
from realsrt.errors import RealSRTError
from realsrt.io import image as imageio
from realsrt.io.formats import output_format, supported_formats
from realsrt.io.picture import Picture
from realsrt.server import maker, service, uploads, worker
from realsrt.server.keys import Keys
from realsrt.server.service import Service
from realsrt.server.settings import ServerSettings
from realsrt.server.visitors import VISITOR
from support.phones import GAIN_MAP, ULTRA_HDR, coded, with_mpf
from support.serving import problem

ONE, TWO = "key-of-the-first-owner", "key-of-the-second-one"


def by_command(weights, source, target, *options):
    argv = ["upscale", str(source), "-o", str(target), "--model-path", str(weights), "-g", "cpu", "--confidence"]
    assert main([*argv, *options]) == 0
    return target.read_bytes(), target.with_name(f"{target.stem}_confidence.png").read_bytes()


@pytest.mark.parametrize(
    "name, query, argv",
    [
        ("a.png", {}, []),
        ("a.png", {"previews": "false"}, []),
        ("a.jpg", {"quality": 60, "no_provenance": True}, ["--quality", "60", "--no-provenance"]),
        ("a.tif", {"outscale": 2.5, "ext": "webp", "steps": 3}, ["-s", "2.5", "-f", "webp", "--steps", "3"]),
        (
            "a.png",
            {"resize": "50x40", "color_fix": "adain", "seed": 4},
            ["-r", "50x40", "--color-fix", "adain", "--seed", "4"],
        ),
    ],
)
def test_bytes_are_those_of_the_command(opened, picture, weights, tmp_path, name, query, argv):
    source, here = picture(name), opened()
    answer = here.post(source, **query)
    assert answer.status_code == 202
    job = here.ended(answer.json()["id"])
    assert (job["state"], job["progress"], job["name"]) == ("done", 1, "picture")
    target = tmp_path / f"out.{job['format']}"
    whole, confidence = by_command(weights, source, target, *argv)
    result = here.http.get(f"{answer.headers['location']}/result")
    assert result.content == whole
    assert here.http.get(f"{answer.headers['location']}/confidence").content == confidence
    made = imageio.read(target)
    assert (job["out_width"], job["out_height"]) == (made.width, made.height)


def test_a_form_is_as_good_as_a_body(opened, picture, weights, tmp_path):
    source, here = picture("b.jpg"), opened()
    form = {"fidelity": "0.5", "previews": "false"}
    answer = here.http.post("/v1/jobs", data=form, files={"image": ("../x/b r.jpg", source.read_bytes())})
    job = here.ended(answer.json()["id"])
    assert (job["name"], job["options"]["fidelity"]) == ("b r.jpg", 0.5)
    whole, _ = by_command(weights, source, tmp_path / "out.jpg", "--fidelity", "0.5")
    result = here.http.get(f"/v1/jobs/{job['id']}/result")
    assert result.content == whole
    assert result.headers["content-type"] == "image/jpeg"
    assert (
        'filename="b r_x4.jpg"' in result.headers["content-disposition"]
        or "b%20r_x4.jpg" in result.headers["content-disposition"]
    )


def events(text):
    found = []
    for block in text.strip().split("\n\n"):
        if block.startswith("event"):
            kind, data = block.split("\n")
            found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_events_tell_states_steps_and_progress(opened, picture, monkeypatch):
    here = opened(working=False)
    id = here.post(picture(), steps=3).json()["id"]
    take, store = type(here.service.store).take, here.service.store

    def begin():
        while not here.service.live.listened(id):
            pass
        store.take = lambda most=1: take(store, most)

    threading.Thread(target=begin).start()
    found = events(here.http.get(f"/v1/jobs/{id}/events").text)
    states = [data["state"] for kind, data in found if kind == "state"]
    assert states[0] == "queued"
    assert states[-1] == "done"
    previews = [data for kind, data in found if kind == "preview"]
    assert [(data["step"], data["of"]) for data in previews] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    jpeg = base64.b64decode(previews[0]["image"].removeprefix("data:image/jpeg;base64,"))
    assert jpeg[:3] == b"\xff\xd8\xff"
    assert found[-1][1]["progress"] == 1
    again = events(here.http.get(f"/v1/jobs/{id}/events").text)
    assert again[-1][1]["state"] == "done"  # who comes late learns the end at once


def test_the_database_is_not_asked_on_the_event_loop(opened, picture, monkeypatch):
    here = opened(working=False)
    id, loops, store = here.post(picture()).json()["id"], [], here.service.store
    ahead = store.ahead

    def asked(*args):
        loops.append(asyncio._get_running_loop())
        return ahead(*args)

    monkeypatch.setattr(store, "ahead", asked)
    here.service.stopping = True  # streams end
    assert [kind for kind, _ in events(here.http.get(f"/v1/jobs/{id}/events").text)] == ["state"]
    assert loops == [None]


def test_a_full_queue_says_when_to_come_back(opened, picture):
    here = opened(working=False, max_queue=2)
    source = picture()
    first, second = here.post(source), here.post(source)
    assert (first.status_code, second.status_code) == (202, 202)
    answer = here.post(source)
    assert "2 jobs are waiting" in problem(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    assert here.http.get(second.headers["location"]).json()["ahead"] == 1
    here.http.delete(first.headers["location"])
    assert here.post(source).status_code == 202
    assert len(list((here.service.store.root / "jobs").iterdir())) == 2
    assert not list(here.service.store.incoming.iterdir())


def test_limits_and_what_is_no_picture(opened, picture, tmp_path):
    here = opened(working=False, max_bytes=3000, max_pixels=500)
    assert "30x20 is above the limit of 500 pixels" in problem(here.post(picture(), filename="a.png"), 413)
    large = b"x" * 3001
    assert "limit of 3,000 bytes" in problem(here.http.post("/v1/jobs", content=large), 413)
    assert "limit of 3,000 bytes" in problem(
        here.http.post("/v1/jobs", content=iter([large[:2000], large[2000:]])), 413
    )
    assert "limit of 3,000 bytes" in problem(here.http.post("/v1/jobs", files={"image": large}), 413)
    assert "limit of 3,000" in problem(here.http.post("/v1/jobs", files={"image": b"x" * 100_000}), 413)
    text = here.http.post("/v1/jobs", files={"image": ("words.png", b"only words")})
    detail = problem(text, 415)
    assert detail.startswith("words.png: is not a picture")
    assert str(tmp_path) not in detail
    assert "no picture" in problem(here.http.post("/v1/jobs"), 422)
    assert "no file" in problem(here.http.post("/v1/jobs", data={"steps": 1}, files={"other": b"x"}), 422)
    small = picture("small.png", 8, 8)
    assert problem(here.post(small, steps=-1), 422).startswith("steps: ")
    assert problem(here.post(small, stepz=1), 422).startswith("stepz: ")
    assert "denoise is auto" in problem(here.post(small, denoise="nan"), 422)
    assert "multiple of" in problem(here.post(small, tile=17), 422)
    assert "quarter of the tile" in problem(here.post(small, stride=2), 422)
    assert "not both" in problem(here.post(small, resize="9x9", outscale=2), 422)
    assert "above the limit" in problem(here.post(small, resize="900x900"), 413)
    transparent = picture("t.png", 8, 8, bands=4)
    assert "transparency" in problem(here.post(transparent, ext="jpg"), 422)
    assert not list(here.service.store.incoming.iterdir())
    assert here.service.store.count("queued") == 0


def test_a_job_that_fails_says_why(opened, picture):
    here = opened()
    whole = picture("noise.png", 60, 60).read_bytes()
    cut = here.http.post("/v1/jobs?filename=cut.png", content=whole[: len(whole) // 2])
    job = here.ended(cut.json()["id"])
    assert job["state"] == "failed"
    assert job["error"].startswith("cut.png: is damaged or cut short")
    assert "failed: cut.png" in problem(here.http.get(cut.headers["location"] + "/result"), 409)
    assert here.ended(here.post(picture()).json()["id"])["state"] == "done"


def test_cancelling_waiting_running_and_finished_jobs(opened, picture):
    here = opened()
    running = threading.Event()
    go_on = threading.Event()
    follow = here.service.live.follow

    def slow(id):
        tell = follow(id)

        def told(share):
            tell(share)
            running.set()
            go_on.wait(10)

        return told

    here.service.live.follow = slow
    first = here.post(picture("a.png", 100, 100)).headers["location"]
    second = here.post(picture()).headers["location"]
    assert running.wait(10)
    assert here.http.get(first).json()["state"] == "running"
    assert here.http.delete(second).json()["state"] == "cancelled"
    assert here.http.delete(first).json()["state"] == "cancelled"
    go_on.set()
    third = here.post(picture()).headers["location"]
    assert here.ended(third.rpartition("/")[2])["state"] == "done"
    assert here.http.get(first).json()["state"] == "cancelled"
    assert here.http.get(third + "/result").status_code == 200
    assert here.http.delete(third).json()["state"] == "expired"
    problem(here.http.get(third + "/result"), 410)
    assert not list((here.service.store.root / "jobs").iterdir())


def test_a_job_of_no_steps_has_no_confidence(opened, picture):
    here = opened()
    answer = here.post(picture(), steps=0)
    assert here.ended(answer.json()["id"])["state"] == "done"
    assert "no confidence" in problem(here.http.get(f"{answer.headers['location']}/confidence"), 404)


def test_owners_see_their_own_jobs_only(opened, picture):
    here = opened(keys=Keys({ONE: "one", TWO: "two"}))
    first, second = {"Authorization": f"Bearer {ONE}"}, {"X-API-Key": TWO}
    data = picture().read_bytes()
    assert "missing" in problem(here.http.post("/v1/jobs", content=data), 401)
    wrong = here.http.post("/v1/jobs", content=data, headers={"Authorization": "Bearer " + ONE[:-1]})
    assert "wrong" in problem(wrong, 401)
    assert wrong.headers["www-authenticate"] == "Bearer"
    id = here.http.post("/v1/jobs", content=data, headers=first).json()["id"]
    assert here.ended(id, headers=first)["state"] == "done"
    for method, path in [
        ("GET", ""), ("GET", "/result"), ("GET", "/confidence"), ("GET", "/events"), ("DELETE", ""),
    ]:  # fmt: skip
        assert problem(here.http.request(method, f"/v1/jobs/{id}{path}", headers=second), 404) == "there is no such job"
        problem(here.http.request(method, f"/v1/jobs/{id}{path}"), 401)
    problem(here.http.post(f"/v1/jobs/{id}/regenerate", json={"below": 0.5}, headers=second), 404)
    assert here.http.get(f"/v1/jobs/{id}/result", headers=first).status_code == 200
    assert here.http.get("/healthz").status_code == 200


def test_regenerating_and_regenerating_again(opened, picture, up):
    here = opened()
    source = picture("a.png", 40, 40)
    parent = here.post(source).headers["location"]
    here.ended(parent.rpartition("/")[2])
    first = here.http.post(parent + "/regenerate", json={"box": [0, 0, 64, 64], "seed": 5, "temperature": 2.0})
    assert first.status_code == 202, first.text
    job = here.ended(first.json()["id"])
    assert job["state"] == "done", job
    assert job["parent"] == parent.rpartition("/")[2]
    here.http.delete(parent)  # the chain does not need it
    second = here.http.post(f"/v1/jobs/{job['id']}/regenerate", json={"below": 0.6, "seed": 1, "candidates": 2})
    again = here.ended(second.json()["id"])
    assert [edit["seed"] for edit in again["regenerated"]] == [5, 1]
    expected = up.upscale(imageio.read(source), confidence=True)
    expected = up.regenerate(expected, (0, 0, 64, 64), temperature=2.0, seed=5)
    check(here, job, expected)
    check(here, again, up.regenerate(expected, 0.6, seed=1, candidates=2))
    assert "reaches outside" in problem(
        here.http.post(f"/v1/jobs/{job['id']}/regenerate", json={"box": [0, 0, 161, 9]}), 422
    )
    assert "one of them" in problem(here.http.post(f"/v1/jobs/{job['id']}/regenerate", json={}), 422)


def check(here, job, expected):
    path = here.service.store.root / "made.png"
    path.write_bytes(here.http.get(f"/v1/jobs/{job['id']}/result").content)
    assert (imageio.read(path).pixels == expected.image.pixels).all()


def test_results_expire(opened, picture):
    here = opened(keep=0.5)
    job = here.ended(here.post(picture()).json()["id"])
    here.service.store.expire(0.5)
    assert here.http.get(f"/v1/jobs/{job['id']}/result").status_code == 200
    here.service.store._db.execute("UPDATE jobs SET expires = expires - 1900")
    assert here.service.store.expire(0.5) == 1
    assert here.http.get(f"/v1/jobs/{job['id']}").json()["state"] == "expired"
    problem(here.http.get(f"/v1/jobs/{job['id']}/result"), 410)
    here.service.store._db.execute("UPDATE jobs SET expires = expires - 1900")
    here.service.store.expire(0.5)
    problem(here.http.get(f"/v1/jobs/{job['id']}"), 404)


def test_other_sites_and_large_bodies(opened, picture):
    here = opened(working=False, cors_origins=("https://good.example",))
    data = picture().read_bytes()

    def post(origin):
        return here.http.post("/v1/jobs", content=data, headers={"Origin": origin})

    problem(post("https://evil.example"), 403)
    assert post("http://testserver").status_code == 202
    answer = post("https://good.example")
    assert answer.headers["access-control-allow-origin"] == "https://good.example"
    id = answer.json()["id"]
    problem(here.http.post(f"/v1/jobs/{id}/regenerate", content=b" " * 300_000), 413)
    problem(here.http.post(f"/v1/jobs/{id}/regenerate", content=b"{"), 422)
    problem(here.http.get("/nothing"), 404)
    problem(here.http.put("/v1/jobs"), 405)
    wrong = here.http.put(f"/v1/jobs/{id}")
    problem(wrong, 405)
    assert wrong.headers["allow"] == "DELETE, GET"


def test_no_refusal_is_plain_text(opened, picture):
    here = opened(cors_origins=("https://good.example",))
    address = f"/v1/jobs/{here.post(picture()).json()['id']}/result"
    here.ended(address.split("/")[3])
    size = len(here.http.get(address).content)
    origin = {"Origin": "https://good.example"}
    part = here.http.get(address, headers={"Range": "bytes=1-4"})
    assert (part.status_code, len(part.content)) == (206, 4)
    beyond = here.http.get(address, headers={"Range": f"bytes={size}-", **origin})
    assert problem(beyond, 416) == "the range lies outside of the file"
    assert beyond.headers["content-range"] == f"bytes */{size}"
    assert beyond.headers["access-control-allow-origin"] == "https://good.example"
    assert "range" in problem(here.http.get(address, headers={"Range": "bytes"}), 400)
    assert "bytes" in problem(here.http.get(address, headers={"Range": "pages=1-2"}), 400)
    asks = {**origin, "Access-Control-Request-Method": "PATCH"}
    assert "method" in problem(here.http.options("/v1/jobs", headers=asks), 400).lower()


def test_uploads_of_a_client_at_a_time(opened, picture, monkeypatch):
    monkeypatch.setattr(uploads, "_AT_ONCE", 1)
    here = opened(working=False, keys=Keys({ONE: "one", TWO: "two"}))
    data = picture().read_bytes()

    def post(key):
        return here.http.post("/v1/jobs", content=data, headers={"X-API-Key": key})

    under_way = here.service.uploads
    with under_way.one_of("one", ""):
        refused = post(ONE)
        assert "under way" in problem(refused, 429)
        assert refused.headers["retry-after"] == "5"
        assert post(TWO).status_code == 202
    assert post(ONE).status_code == post(ONE).status_code == 202
    with under_way.one_of("", "192.0.2.7"), under_way.one_of("", "192.0.2.8"), under_way.one_of("a", "192.0.2.7"):
        for owner in ("", f"{VISITOR}b"):  # whose cookie is easily had
            with pytest.raises(HTTPException), under_way.one_of(owner, "::ffff:192.0.2.7"):
                pass


def test_a_request_that_says_twice_how_long_it_is(opened):
    here = opened(working=False)
    answer = here.http.post("/v1/jobs", content=b"abc", headers={"Transfer-Encoding": "chunked", "Content-Length": "3"})
    assert "says twice" in problem(answer, 400)
    assert answer.headers["connection"] == "close"


def test_what_is_refused_is_not_said_again_at_length(opened, caplog):
    here = opened(working=False)
    with caplog.at_level("INFO", "realsrt.server"):
        assert len(problem(here.http.post("/v1/jobs/x/regenerate", json={"a" * 200_000: 1}), 422)) <= 500
        problem(here.http.get("/" + "a" * 50_000), 404)
    assert max(len(str(line.facts)) for line in caplog.records if line.message == "request") < 1000


def test_regenerating_one_after_another_comes_to_an_end(opened, picture, monkeypatch):
    """Every job of a chain keeps what all before it were asked for."""
    here = opened()
    id = here.ended(here.post(picture("a.png", 16, 16), steps=1, previews=False).json()["id"])["id"]
    painted = {"cells": [[0, 0, 1]] * 8192}

    def again(edit):
        answer = here.http.post(f"/v1/jobs/{id}/regenerate", json=edit)
        return here.ended(answer.json()["id"])["id"] if answer.status_code == 202 else problem(answer, 422)

    for _ in range(2):
        id = again(painted)
    assert "2 parts of this result are regenerated already" in again({"cells": [[0, 0, 1]]})
    id = again({"box": [0, 0, 8, 8]})  # takes no room
    monkeypatch.setattr(service, "_MOST_EDITS", 3)
    assert "3 parts" in again({"box": [0, 0, 8, 8]})


def test_what_watches_the_service(opened, picture, weights):
    here = opened()
    here.ended(here.post(picture()).json()["id"])
    assert here.http.get("/readyz").json()["status"] == "ready"
    models = here.http.get("/v1/models").json()
    assert models["models"][0]["name"] == "tiny.safetensors"
    assert (models["device"], models["precision"]) == ("cpu", "float32")
    text = here.http.get("/metrics").text
    assert 'realsrt_jobs_total{state="done"} 1.0' in text
    assert 'realsrt_requests_total{method="POST",route="/v1/jobs",status="202"} 1.0' in text
    assert "realsrt_input_pixels_total 600.0" in text
    here.service.will_stop()
    problem(here.http.get("/readyz"), 503)


def test_the_service_would_not_share_its_folder(opened, up, tmp_path):
    opened()
    with pytest.raises(RealSRTError, match="another service is at work here"):
        Service(ServerSettings(tmp_path / "data"), up)


def test_the_root_points_on_and_no_page_asks_another_server(opened):
    here = opened()
    answer = here.http.get("/")
    assert answer.json()["interface"] == "/openapi.json"
    assert here.http.get("/docs").status_code == 404


def test_pictures_of_phones_are_taken(opened, picture, tmp_path):
    """Ultra HDR is a JPEG; alpha that is full everywhere is none, which only looking into the picture tells."""
    (tmp_path / "uhdr.jpg").write_bytes(with_mpf(coded(ULTRA_HDR), GAIN_MAP))
    here = opened(working=False)
    assert here.post(tmp_path / "uhdr.jpg").status_code == 202
    pixels = np.full((20, 30, 4), 255, np.uint8)
    imageio.write(tmp_path / "full.png", Picture(pixels))
    assert here.post(tmp_path / "full.png", ext="jpg").status_code == 202
    pixels[3, 4, 3] = 0
    imageio.write(tmp_path / "hole.png", Picture(pixels))
    assert "transparency" in problem(here.post(tmp_path / "hole.png", ext="jpg"), 422)
    data = (tmp_path / "hole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:60] + b"x" * 8 + data[68:])
    problem(here.post(tmp_path / "cut.png", ext="jpg"), 422)


def test_work_without_end_is_refused_before_it_is_accepted(opened, picture):
    """By model and picture: a tile whose attention takes minutes, and more steps or parts than a job may have."""
    here = opened(working=False, max_pixels=4_000_000)
    flat = picture("flat.png", 1500, 1500)
    assert "tile must be at most 256" in problem(here.post(flat, tile=512), 422)
    assert "times the work" in problem(here.post(flat, tile=256), 422)
    assert "times the work" in problem(here.post(flat, steps=64, stride=16), 422)
    assert here.post(picture("small.png", 64, 64), tile=256).status_code == 202
    parent = here.post(flat).json()["id"]
    here.service.store._db.execute("UPDATE jobs SET state = 'done' WHERE id = ?", [parent])
    edit = {"below": 0.5, "candidates": 16}
    assert "times the work" in problem(here.http.post(f"/v1/jobs/{parent}/regenerate", json=edit), 422)


def test_a_job_that_takes_too_long_fails(opened, picture):
    here = opened(max_seconds=1e-4)
    job = here.ended(here.post(picture("a.png", 200, 200), previews=False).json()["id"])
    assert job["state"] == "failed"
    assert "took longer than 0.0001 seconds" in job["error"]


def test_a_full_disk_is_said_and_nothing_is_lost(opened, picture, monkeypatch):
    monkeypatch.setattr(worker, "FULL_PAUSE", 0.3)
    here = opened()
    save, full = maker.save_image, [True]

    def no_room(*args, **more):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(*args, **more)

    monkeypatch.setattr(maker, "save_image", no_room)
    id = here.post(picture()).json()["id"]
    until = time.monotonic() + 30
    while not here.service.worker.full:
        assert time.monotonic() < until
        time.sleep(0.01)
    answer = here.post(picture())
    assert "disk is full" in problem(answer, 507)
    assert int(answer.headers["retry-after"]) >= 1
    assert "disk is full" in problem(here.http.get("/readyz"), 503)
    assert here.http.get(f"/v1/jobs/{id}").json()["state"] in ("queued", "running")
    full.clear()
    assert here.ended(id)["state"] == "done"
    assert here.service.store.get(id).attempts == 1


def test_a_disk_that_fills_up_while_something_comes_in(opened, picture, monkeypatch):
    here = opened(working=False)

    def no_room(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads, "_sync", no_room)
    for answer in (here.post(picture()), here.http.post("/v1/jobs", files={"image": picture().read_bytes()})):
        assert "disk is full" in problem(answer, 507)
    monkeypatch.undo()

    def no_page():
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(here.service.store, "_insert", lambda row: no_page())
    problem(here.post(picture()), 507)
    assert not list(here.service.store.incoming.iterdir())
    assert not list((here.service.store.root / "jobs").iterdir())


def test_a_job_is_not_stuck_after_its_end_could_not_be_noted(opened, picture):
    here = opened()
    end, calls = here.service.store.end, []

    def broken(*args, **more):
        calls.append(1)
        if len(calls) == 1:
            raise sqlite3.OperationalError("disk I/O error")
        return end(*args, **more)

    here.service.store.end = broken
    assert here.ended(here.post(picture()).json()["id"])["state"] == "done"
    assert len(calls) == 2


def test_a_list_of_ones_own_jobs(opened, picture):
    here = opened(working=False, keys=Keys({ONE: "one", TWO: "two"}))
    first, second = {"X-API-Key": ONE}, {"X-API-Key": TWO}
    data = picture().read_bytes()
    ids = [here.http.post("/v1/jobs", content=data, headers=first).json()["id"] for _ in range(3)]
    other = here.http.post("/v1/jobs", content=data, headers=second).json()["id"]
    page = here.http.get("/v1/jobs?limit=2", headers=first).json()
    assert [job["id"] for job in page["jobs"]] == [ids[2], ids[1]]
    page = here.http.get("/v1/jobs", params={"limit": 2, "before": page["next"]}, headers=first).json()
    assert [job["id"] for job in page["jobs"]] == [ids[0]]
    assert "next" not in page
    problem(here.http.get("/v1/jobs", params={"before": other}, headers=first), 404)
    problem(here.http.get("/v1/jobs?limit=0", headers=first), 422)
    problem(here.http.get("/v1/jobs"), 401)


def test_health_checks_by_head_and_figures_by_methods_that_exist(opened):
    here = opened()
    for path in ("/healthz", "/readyz"):
        answer = here.http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    for number in range(5):
        here.http.request(f"MADE-UP-{number}", "/healthz")
    text = here.http.get("/metrics").text
    assert "MADE-UP" not in text
    assert 'method="other"' in text


def test_near_misses_are_hinted_at(opened, picture):
    here = opened(working=False)
    assert problem(here.post(picture(), scale=2), 422) == "scale: there is no such option; did you mean outscale?"
    form = {"colour_fix": "none"}
    answer = here.http.post("/v1/jobs", data=form, files={"image": picture().read_bytes()})
    assert "did you mean color_fix?" in problem(answer, 422)
    assert problem(here.post(picture(), nothing=1), 422) == "nothing: there is no such option"


@pytest.mark.parametrize(
    ("more", "refused"), [({}, False), ({"page": True}, True), ({"keys": Keys({ONE: "one"})}, True)]
)
def test_the_interface_says_what_is_refused(opened, more, refused):
    here = opened(working=False, **more)
    schema = here.http.get("/openapi.json").json()
    operations = {path: op for path, methods in schema["paths"].items() for op in methods.values()}
    open_to_all = {"/healthz", "/readyz", "/metrics"}
    for path, operation in operations.items():
        answers = operation["responses"]
        assert ("401" in answers) is (refused and path not in open_to_all), path
        assert ("422" in answers) is (path not in open_to_all)
        for status in answers.keys() - {"200", "202"}:
            assert list(answers[status]["content"]) == ["application/problem+json"]
    assert here.http.get("/v1/models").status_code == (401 if refused else 200)
    assert "Problem" in schema["components"]["schemas"]
    assert "HTTPValidationError" not in schema["components"]["schemas"]


def test_formats_offered_are_those_that_can_be_written(opened):
    schema = opened().http.get("/openapi.json").json()
    parameters = schema["paths"]["/v1/jobs"]["post"]["parameters"]
    offered = next(entry["schema"]["enum"] for entry in parameters if entry["name"] == "ext")
    assert set(offered) == {"auto", *(output_format(f"a.{ext}").suffixes[0][1:] for ext in offered if ext != "auto")}
    assert len(offered) == 1 + len(supported_formats()["write"])


@pytest.mark.parametrize("charset", ["punycode", "no-such", "utf-16", "idna", "zlib", "unicode_escape"])
def test_a_form_in_an_odd_charset(opened, charset):
    body = b'--x\r\nContent-Disposition: form-data; name="a\xff-\\ud800"; filename="\xff"\r\n\r\nb\r\n--x--\r\n'
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    answer = opened(working=False).http.post("/v1/jobs", content=body, headers={"Content-Type": kind})
    assert answer.status_code in (400, 422), answer.text
    problem(answer, answer.status_code)
