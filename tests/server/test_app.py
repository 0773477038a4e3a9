import base64
import json
import threading

import numpy as np
import pytest

from realsrt.cli import main
from realsrt.errors import RealSRTError
from realsrt.io import image as imageio
from realsrt.io.picture import Picture
from realsrt.server.keys import Keys
from realsrt.server.service import Service
from realsrt.server.settings import ServerSettings
from support.phones import GAIN_MAP, ULTRA_HDR, coded, with_mpf

ONE, TWO = "key-of-the-first-owner", "key-of-the-second-one"


def by_command(weights, source, target, *options):
    argv = ["upscale", str(source), "-o", str(target), "--model-path", str(weights), "-g", "cpu", "--confidence"]
    assert main([*argv, *options]) == 0
    return target.read_bytes(), target.with_name(f"{target.stem}_confidence.png").read_bytes()


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert "\n" not in body["detail"]
    return body["detail"]


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
        'filename="b r.jpg"' in result.headers["content-disposition"]
        or "b%20r.jpg" in result.headers["content-disposition"]
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
    assert [(data["step"], data["of"]) for data in previews] == [(1, 3), (2, 3), (3, 3)]
    jpeg = base64.b64decode(previews[0]["image"].removeprefix("data:image/jpeg;base64,"))
    assert jpeg[:3] == b"\xff\xd8\xff"
    assert found[-1][1]["progress"] == 1
    again = events(here.http.get(f"/v1/jobs/{id}/events").text)
    assert again[-1][1]["state"] == "done"  # who comes late learns the end at once


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
    problem(here.http.post(f"/v1/jobs/{id}/regenerate", content=b" " * 100_000), 413)
    problem(here.http.post(f"/v1/jobs/{id}/regenerate", content=b"{"), 422)
    problem(here.http.get("/nothing"), 404)
    problem(here.http.put("/v1/jobs"), 405)
    wrong = here.http.put(f"/v1/jobs/{id}")
    problem(wrong, 405)
    assert wrong.headers["allow"] == "DELETE, GET"


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
