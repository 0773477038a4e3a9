"""What the page needs of the service, and that nobody gets more than is theirs."""

import io
import json
import socket
import stat
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from starlette.testclient import TestClient

from realsrt.errors import UsageError
from realsrt.io import image as imageio
from realsrt.server import page, visitors
from realsrt.server.app import create_app
from realsrt.server.archive import distinct
from realsrt.server.keys import Keys
from realsrt.server.service import Service
from realsrt.server.settings import ServerSettings
from realsrt.server.tiles import tiles_of
from realsrt.server.visitors import COOKIE, Visitors
from support.serving import Opened, problem

KEY = "key-of-the-only-owner"


@pytest.fixture
def paged(opened):
    """A function: settings → a service with its page, and a visitor's client."""

    def make(**settings):
        here = opened(page=True, **settings)
        assert here.http.post("/v1/visit").status_code == 204
        return here

    return make


def another(here):
    """Somebody else's client of the same service."""
    client = TestClient(here.http.app)
    assert client.post("/v1/visit").status_code == 204
    return client


def done(here, path, **query):
    answer = here.post(path, **query)
    assert answer.status_code == 202, answer.text
    job = here.ended(answer.json()["id"])
    assert job["state"] == "done", job
    return job["id"]


def pixels(here, id):
    path = here.service.store.root / f"{id}.png"
    path.write_bytes(here.http.get(f"/v1/jobs/{id}/result").content)
    return imageio.read(path).pixels


def test_the_page_runs_no_script_but_its_own(paged):
    here = paged()
    answer = here.http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in answer.text
    assert " on" + "click=" not in answer.text
    assert "style=" not in answer.text
    assert "://" not in answer.text.replace("http://www.w3.org", "")  # nothing from elsewhere
    for name in ("main.js", "style.css", "vendor/openseadragon.min.js"):
        found = here.http.get(f"/page/{name}")
        assert found.status_code == 200
        assert found.headers["content-security-policy"] == policy
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd", "/page/"):
        assert here.http.get(path).status_code == 404


def test_without_the_option_there_is_no_page(opened):
    here = opened()
    assert here.http.get("/").json()["service"] == "RealSRT"
    assert here.http.get("/page/main.js").status_code == 404
    assert here.http.post("/v1/visit").status_code == 404


def test_a_visitor_has_a_cookie_and_sees_only_what_is_theirs(paged, picture):
    here = paged()
    cookie = fresh(here).post("/v1/visit").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "set-cookie" not in here.http.post("/v1/visit").headers  # who has one keeps it
    id = done(here, picture("a.png", 40, 40))
    here.http.post(f"/v1/jobs/{id}/regenerate", json={"cells": [[0, 0, 2]], "candidates": 2})
    here.http.get(f"/v1/jobs/{id}/tiles/after")
    other = another(here)
    posts = {"/regenerate": {"below": 0.5}, "/upscale": {}, "/pick": {"candidate": 1}}
    gets = ("", "/result", "/confidence", "/trust", "/events", "/tiles/before", "/tiles/after/0/0_0.jpg", "/steps/0",
            "/cells", "/candidates", "/candidates/1")  # fmt: skip
    for client, status in ((other, 404), (fresh(here), 401)):
        for path in gets:
            problem(client.get(f"/v1/jobs/{id}{path}"), status)
        for path, body in posts.items():
            problem(client.post(f"/v1/jobs/{id}{path}", json=body), status)
        problem(client.delete(f"/v1/jobs/{id}"), status)
        problem(client.get("/v1/archive.zip", params={"id": id}), status)
    assert here.http.get(f"/v1/jobs/{id}/result").status_code == 200


def fresh(here):
    return TestClient(here.http.app)


@pytest.mark.parametrize("cookie", ["", "a", "a.b", "visitor 0", ".", "a." + "0" * 64])
def test_made_up_cookies_are_nobody(paged, cookie, picture):
    here = paged()
    client = fresh(here)
    client.cookies.set(COOKIE, cookie)
    problem(client.post("/v1/jobs", content=picture().read_bytes()), 401)
    assert "open the page" in problem(client.get("/v1/page"), 401)


def test_cookies_outlive_a_restart_and_their_secret_is_secret(tmp_path):
    path = tmp_path / "visitors.key"
    cookie = Visitors(path, 24).welcome("1.2.3.4")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Visitors(path, 24).owner(cookie)
    assert Visitors(tmp_path / "other.key", 24).owner(cookie) is None
    assert cookie not in path.read_bytes().decode("latin-1")


def test_keys_and_visitors_side_by_side(opened, picture):
    here = opened(page=True, keys=Keys({KEY: "one"}))
    with_key = {"Authorization": f"Bearer {KEY}"}
    id = here.http.post("/v1/jobs", content=picture().read_bytes(), headers=with_key).json()["id"]
    here.ended(id, headers=with_key)
    here.http.post("/v1/visit")
    problem(here.http.get(f"/v1/jobs/{id}"), 404)
    problem(here.http.get(f"/v1/jobs/{id}", headers={"Authorization": "Bearer " + "0" * 20}), 401)
    assert here.http.get(f"/v1/jobs/{id}", headers=with_key).status_code == 200


def test_visitors_are_limited(paged, picture, monkeypatch):
    here = paged(working=False, max_queue=4)
    source = picture()
    assert [here.post(source).status_code for _ in range(3)] == [202, 202, 429]  # the half of the queue
    here.http.cookies = another(here).cookies
    assert here.post(source).status_code == 202
    monkeypatch.setattr(visitors, "_PER_HOUR", 3)
    client = fresh(here)
    found = [client.post("/v1/visit", headers={"Cookie": "none=1"}).status_code for _ in range(4)]
    assert 429 in found


@pytest.mark.parametrize(
    "asked, keep, stays",
    [(True, False, False), (True, True, True), (False, False, True)],
    ids=["gone", "kept", "not asked"],
)
def test_what_visitors_sent_goes_when_the_service_is_stopped(tmp_path, up, picture, asked, keep, stays):
    """And nothing of it stays in the folder; what was sent with a key does. After a crash all is there."""
    settings = ServerSettings(tmp_path / "data", page=True, keys=Keys({KEY: "one"}), keep_visitors=keep)
    with_key = {"Authorization": f"Bearer {KEY}"}

    def names():
        return [path for path in settings.data.rglob("*") if path.is_file() and b"seaside" in path.read_bytes()]

    with TestClient(create_app(service := Service(settings, up))) as client:
        here = Opened(service, client)
        kept = client.post("/v1/jobs", content=picture().read_bytes(), headers=with_key).json()["id"]
        here.ended(kept, headers=with_key)
        client.post("/v1/visit")
        first = done(here, picture(), filename="seaside.png")
        service.store.take = lambda most=1: []
        second = here.post(picture(), filename="seaside 2.png").json()["id"]
        cookie = client.cookies[COOKIE]
        assert names()
        if asked:
            service.will_stop()
    assert bool(names()) is stays
    with TestClient(create_app(service := Service(settings, up)), cookies={COOKIE: cookie}) as client:
        here = Opened(service, client)
        assert client.get(f"/v1/jobs/{kept}/result", headers=with_key).status_code == 200
        assert client.get(f"/v1/jobs/{first}/result").status_code == (200 if stays else 404)
        assert client.get(f"/v1/jobs/{second}").status_code == (200 if stays else 404)
        if stays:
            assert here.ended(second)["state"] == "done"
        else:
            assert client.get("/v1/page").status_code == 200  # the cookie is still good
            assert {path.name for path in (settings.data / "jobs").iterdir()} >= {kept}
            assert not (settings.data / "jobs" / first).exists()
            assert not (settings.data / "jobs" / second).exists()


def test_a_visitor_keeps_no_more_than_allowed(paged, picture):
    here = paged(visitor_jobs=2)
    first = done(here, picture())
    done(here, picture())
    assert "as many as a visitor may" in problem(here.post(picture()), 429)
    here.http.delete(f"/v1/jobs/{first}")
    done(here, picture())


@pytest.mark.parametrize(
    "host, status",
    [
        ("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("localhost", 200), ("192.168.1.9", 200), ("box", 200),
        ("photos.example", 200), ("evil.example", 421), ("evil.example:8000", 421), ("127.0.0.1.evil.example", 421),
        ("localhost.", 421), ("", 421), ("a@127.0.0.1", 421), ("photos.example.evil", 421),
    ],
)  # fmt: skip
@pytest.mark.parametrize("page", [True, False])
def test_a_name_pointed_here_gets_nothing(opened, host, status, page):
    here = opened(page=page, hosts=("photos.example",))
    assert here.http.get("/", headers={"Host": host}).status_code == status


def test_a_page_elsewhere_gets_nothing(paged, picture):
    here = paged()
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9"):
        data = picture().read_bytes()
        problem(here.http.post("/v1/jobs", content=data, headers={"Origin": origin}), 403)
        problem(here.http.post("/v1/visit", headers={"Origin": origin}), 403)
    assert here.http.post("/v1/visit", headers={"Origin": "http://testserver"}).status_code == 204


def test_paths_and_addresses_are_only_words(paged, picture, tmp_path, monkeypatch):
    """A visitor sends bytes; no name of a file or an address in them is followed."""
    here = paged()
    secret = picture("secret.png", 8, 8)
    assert here.http.get("/healthz").status_code == 200

    def refuse(*_, **__):
        raise AssertionError("a connection outwards")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    bodies = [
        json.dumps({"path": str(secret), "meta": {"_type": "gradio.FileData"}}),
        str(secret), f"file://{secret}", "http://evil.example/a.png", "/dev/zero",
        f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>',
        '<!DOCTYPE x [<!ENTITY e SYSTEM "http://evil.example/x">]><x>&e;</x>',
    ]  # fmt: skip
    for body in bodies:
        for name in ("a.png", str(secret), "../../secret.png", "http://evil.example/a.png"):
            problem(here.http.post("/v1/jobs", params={"filename": name}, content=body.encode()), 415)
    for path in ("/gradio_api/queue/join", "/gradio_api/upload", "/file=/etc/passwd", "/upload"):
        assert here.http.post(path, json={"data": [str(secret)]}).status_code == 404
    answer = here.http.post("/v1/jobs", params={"filename": "../../../etc/passwd"}, content=secret.read_bytes())
    job = here.ended(answer.json()["id"])
    assert job["name"] == "passwd"
    assert job["state"] == "done"


def test_nothing_a_visitor_sends_is_shown_as_it_came(paged, picture):
    here = paged()
    markup = b"<html><script>alert(1)</script></html>"
    problem(here.http.post("/v1/jobs", params={"filename": "evil.html"}, content=markup), 415)
    data = picture("a.png").read_bytes() + markup
    answer = here.http.post("/v1/jobs", params={"filename": "evil.html"}, content=data)
    job = here.ended(answer.json()["id"])
    result = here.http.get(f"/v1/jobs/{job['id']}/result")
    assert result.headers["content-disposition"].startswith("attachment")
    assert result.headers["x-content-type-options"] == "nosniff"
    assert result.headers["content-type"] == "image/png"
    assert b"alert" not in result.content
    for path in ("/tiles/before", "/tiles/after"):
        here.http.get(f"/v1/jobs/{job['id']}{path}")
        shown = here.http.get(f"/v1/jobs/{job['id']}{path}/0/0_0.jpg")
        assert shown.headers["content-type"] == "image/jpeg"
        assert b"alert" not in shown.content
    for path in ("/input", "/tiles/before/../../input", "/tiles/input", "/tiles/..%2finput/0/0_0.jpg"):
        problem(here.http.get(f"/v1/jobs/{job['id']}{path}"), 404)


def test_tiles_steps_and_cells(paged, picture):
    here = paged()
    id = done(here, picture("a.png", 150, 200), steps=2)
    tiles = here.http.get(f"/v1/jobs/{id}/tiles/after").json()
    assert tiles == {"width": 800, "height": 600, "levels": 2, "suffix": ".jpg", "side": 512}
    tile = here.http.get(f"/v1/jobs/{id}/tiles/after/1/1_1.jpg")
    assert tile.headers["content-type"] == "image/jpeg"
    for missing in ("/1/2_0.jpg", "/9/0_0.jpg"):
        problem(here.http.get(f"/v1/jobs/{id}/tiles/after{missing}"), 404)
    assert here.http.get(f"/v1/jobs/{id}/tiles/before").json()["width"] == 200
    assert [here.http.get(f"/v1/jobs/{id}/steps/{step}").status_code for step in (0, 1, 2)] == [200, 200, 404]
    cells = here.service.store.root / "cells.png"
    cells.write_bytes(here.http.get(f"/v1/jobs/{id}/cells").content)
    assert imageio.read(cells).pixels.shape == (75, 100, 1)
    with ThreadPoolExecutor(4) as several:  # libvips reads row by row, and must not be asked for rows out of order
        made = list(several.map(page.cells_of, [here.service.store.confidence(id)] * 80))
    assert set(made) == {cells.read_bytes()}
    transparent = done(here, picture("t.png", 20, 20, bands=4))
    assert here.http.get(f"/v1/jobs/{transparent}/tiles/after").json()["suffix"] == ".webp"
    here.http.delete(f"/v1/jobs/{id}")
    problem(here.http.get(f"/v1/jobs/{id}/tiles/after"), 410)


def test_many_who_wait_for_tiles_keep_nobody_else_waiting(paged, picture, monkeypatch):
    """There are 40 threads for all requests."""
    here = paged()
    id = done(here, picture(), steps=0)
    may_go, decoding = threading.Event(), threading.Semaphore(0)

    def slow(*args):
        decoding.release()
        assert may_go.wait(60)
        return tiles_of(*args)

    monkeypatch.setattr(page, "tiles_of", slow)
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(here.http.get, f"/v1/jobs/{id}/tiles/after") for _ in range(60)]
        try:
            assert decoding.acquire(timeout=60)
            time.sleep(0.5)
            answers = []
            asked = threading.Thread(target=lambda: answers.append(here.http.get("/v1/jobs")))
            asked.start()
            asked.join(20)
            assert [answer.status_code for answer in answers] == [200]
        finally:
            may_go.set()
        assert {one.result().status_code for one in waiting} == {200}


def test_visitors_are_counted_by_network():
    assert visitors.network("192.0.2.7") == visitors.network("::ffff:192.0.2.7") != visitors.network("192.0.2.8")
    assert visitors.network("2001:db8::1") == visitors.network("2001:db8::ffff:2%eth0")
    assert visitors.network("2001:db8::1") != visitors.network("2001:db8:0:1::1")
    assert visitors.network("a" * 60_000) == visitors.network("") == ""


def test_painted_cells_candidates_and_picks(paged, picture, up):
    here = paged()
    source = picture("a.png", 40, 40)
    id = done(here, source)
    edit = {"cells": [[2, 3, 7], [3, 3, 7]], "candidates": 3, "max_temperature": 4.0, "seed": 5}
    answer = here.http.post(f"/v1/jobs/{id}/regenerate", json=edit)
    job = here.ended(answer.json()["id"])
    mask = np.zeros((160, 160), bool)
    mask[16:32, 24:56] = True
    out = up.upscale(imageio.read(source))
    expected = up.regenerate(out, mask, candidates=3, max_temperature=4.0, seed=5)
    assert (pixels(here, job["id"]) == expected.image.pixels).all()
    said = here.http.get(f"/v1/jobs/{job['id']}/candidates").json()
    assert [round(one["score"], 5) for one in said["candidates"]] == [round(c.score, 5) for c in expected.candidates]
    x0, y0, x1, y1 = said["box"]
    third = here.service.store.root / "third.png"
    third.write_bytes(here.http.get(f"/v1/jobs/{job['id']}/candidates/3").content)
    whole = expected.image.pixels.copy()
    whole[y0:y1, x0:x1] = imageio.read(third).pixels
    assert (whole == expected.candidates[2].image.pixels).all()
    picked = here.ended(here.http.post(f"/v1/jobs/{job['id']}/pick", json={"candidate": 3}).json()["id"])
    assert (pixels(here, picked["id"]) == expected.candidates[2].image.pixels).all()
    assert picked["regenerated"][0]["pick"] == 3
    for wrong, body in (("pick", {"candidate": 4}), ("regenerate", {"cells": [[20, 0, 1]]}),
                        ("regenerate", {"cells": [[0, 0, 21]]}), ("regenerate", {"cells": [[0, 2, 2]]}),
                        ("regenerate", {"cells": [[0, 0, 1]], "below": 0.5}),
                        ("regenerate", {"cells": [[0, 0, 1]] * 9000})):  # fmt: skip
        problem(here.http.post(f"/v1/jobs/{job['id']}/{wrong}", json=body), 413 if len(str(body)) > 262_144 else 422)
    problem(here.http.post(f"/v1/jobs/{id}/pick", json={"candidate": 1}), 422)  # nothing was regenerated


def test_what_is_in_memory_is_not_computed_again(paged, picture, up, monkeypatch):
    """And is the same to the byte as if it were."""
    here = paged()
    id = done(here, picture("a.png", 40, 40))
    job = here.http.post(f"/v1/jobs/{id}/regenerate", json={"cells": [[0, 0, 4]], "candidates": 2}).json()["id"]
    here.ended(job)

    def refuse(*_, **__):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        for name in ("upscale", "stream", "regenerate"):
            patch.setattr(up, name, refuse)
        options = {"ext": "webp", "quality": 60, "strength": 0.5}
        remembered = [
            here.ended(here.http.post(f"/v1/jobs/{job}/upscale", json=options).json()["id"]),
            here.ended(here.http.post(f"/v1/jobs/{job}/pick", json={"candidate": 2}).json()["id"]),
        ]
    assert [one["state"] for one in remembered] == ["done", "done"], remembered
    assert remembered[0]["regenerated"]
    assert remembered[0]["format"] == "webp"
    here.service._maker._results._memory.__init__()
    again = [
        here.ended(here.http.post(f"/v1/jobs/{job}/upscale", json=options).json()["id"]),
        here.ended(here.http.post(f"/v1/jobs/{job}/pick", json={"candidate": 2}).json()["id"]),
    ]
    for one, other in zip(remembered, again, strict=True):
        results = [here.http.get(f"/v1/jobs/{made['id']}/result").content for made in (one, other)]
        assert results[0] == results[1]
    other = here.ended(here.http.post(f"/v1/jobs/{job}/upscale", json={"fidelity": 0.5}).json()["id"])
    assert other["state"] == "done"
    assert not other["regenerated"]  # other pixels: what was regenerated is not of them


def test_the_same_picture_again_has_its_steps(paged, picture, up, monkeypatch):
    """What is in memory is not computed again, and its steps are seen all the same."""
    here = paged()
    first = done(here, picture("a.png", 40, 40))
    monkeypatch.setattr(up, "stream", lambda *_, **__: pytest.fail("computed again"))
    second = done(here, picture("a.png", 40, 40))
    assert first != second
    for step in (0, 1):
        images = [here.http.get(f"/v1/jobs/{id}/steps/{step}") for id in (first, second)]
        assert [one.status_code for one in images] == [200, 200]
        assert images[0].content == images[1].content


def test_many_as_a_zip(paged, picture):
    here = paged()
    ids = [done(here, picture(), filename=name) for name in ("a.png", "A.png", "b.png")]
    answer = here.http.get("/v1/archive.zip", params={"id": [*ids, ids[0]]})
    assert answer.headers["content-disposition"].startswith("attachment")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert packed.testzip() is None
        assert packed.namelist() == ["a_x4.png", "A_x4_2.png", "b_x4.png"]
        assert packed.read("b_x4.png") == here.http.get(f"/v1/jobs/{ids[2]}/result").content
    assert distinct(["a", "a.b.c", "A", "a.b.c"]) == ["a", "a.b.c", "A_2", "a.b_2.c"]


def test_what_the_page_says_of_the_service(paged, picture):
    here = paged(warm=True, max_pixels=123_456)
    until = time.monotonic() + 30
    while (facts := here.http.get("/v1/page").json())["pace"] is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert facts["max_pixels"] == 123_456
    assert facts["temporary"] is True
    assert facts["pace"] == sorted(facts["pace"])
    assert facts["pace"][0] > 0
    assert "png" in facts["formats"]
    assert {"png", "mpo", "apng", "hif"} <= set(facts["suffixes"])


def test_only_pages_that_were_named_may_show_it_in_a_frame(opened):
    here = opened(page=True, frame_origins=("https://hub.example",))
    assert "frame-ancestors https://hub.example" in here.http.get("/").headers["content-security-policy"]
    said = here.http.post("/v1/visit").headers["set-cookie"].lower()
    assert all(word in said for word in ("samesite=none", "secure", "partitioned", "httponly"))
    refused = here.http.post("/v1/jobs", headers={"Origin": "https://hub.example"}, content=b"")
    assert refused.status_code == 403  # around the page, not in its name


def test_by_default_no_page_may_show_it_in_a_frame(opened):
    here = opened(page=True)
    assert "frame-ancestors 'none'" in here.http.get("/").headers["content-security-policy"]
    assert "samesite=strict" in here.http.post("/v1/visit").headers["set-cookie"].lower()


@pytest.mark.parametrize("origin", ["hub.example", "https://a.example; script-src *", "https://a b", "*", "'none'"])
def test_what_is_no_origin_gets_into_no_policy(tmp_path, origin):
    with pytest.raises(UsageError, match="--frame-origin"):
        ServerSettings(tmp_path, frame_origins=(origin,))
