"""The page in Chromium, as a person uses it (preset tiny; skipped where Chromium or Playwright is missing)."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from realsrt.cli import main
from realsrt.io import image as imageio

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
pytest.importorskip("gradio", reason="needs the extra `web`")

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIGN = Path(__file__).parents[2] / "examples" / "sign.jpg"
WAIT = 120_000  # ms
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def url(weights):
    command = [sys.executable, "-m", "realsrt", "web", "--port", "0", "--device", "cpu", "--model-path", str(weights)]
    server = subprocess.Popen(
        [*command, "--max-pixels", "200000"], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("RealSRT: http://127.0.0.1:"), line
        yield line.split()[1]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, url):
    """A page that has loaded; that it asked no other server for anything is checked at the end."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    page.wait_for_selector("#go")
    yield page
    context.close()
    assert asked
    assert [address for address in asked if not address.startswith((url, "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def crop(tmp_path_factory):
    """A part of a photograph with its metadata."""
    from dataclasses import replace

    picture = imageio.read(SIGN)
    path = tmp_path_factory.mktemp("input") / "sign.jpg"
    imageio.write(path, replace(picture, pixels=picture.pixels[90:170, 60:160].copy()), quality=95)
    return path


def drop(page, path: Path, where: str = "#drop") -> None:
    page.locator(f"{where} input[type=file]").set_input_files(str(path))


def begin(page, path: Path) -> None:
    drop(page, path)
    page.wait_for_selector("#facts .facts")
    page.locator("#go").click()


def visitor(browser, url: str):
    """Somebody else's page; to be closed."""
    page = browser.new_page()
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector("#go")
    return page


def upscale(page, path: Path) -> None:
    begin(page, path)
    page.wait_for_selector("#download")
    page.wait_for_selector("#status .good")


def download(page, button: str, target: Path) -> Path:
    with page.expect_download() as waiting:
        page.locator(button).click()
    waiting.value.save_as(target)
    return target


def test_from_drop_to_download(page, weights, crop, tmp_path):
    upscale(page, crop)
    assert "sign_x4.jpg: 400 × 320 px" in page.locator("#status").inner_text()
    assert main(["upscale", str(crop), "-o", str(tmp_path / "cli.jpg"), "--model-path", str(weights)]) == 0
    whole = (tmp_path / "cli.jpg").read_bytes()
    assert download(page, "#download", tmp_path / "whole.jpg").read_bytes() == whole

    shown = page.locator("#stage img")  # before and after, as large as each other, both loaded
    assert shown.count() == 2
    sizes = [image.evaluate("image => [image.naturalWidth, image.naturalHeight]") for image in shown.all()]
    assert sizes == [[400, 320], [400, 320]]
    box = page.locator("#stage").bounding_box()
    clipped = page.locator("#stage").screenshot()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    page.wait_for_timeout(500)
    assert page.locator("#stage").screenshot() != clipped

    plain = page.locator("#stage img").nth(1).get_attribute("src")
    page.locator("#overlay input[type=number]").fill("0.6")
    page.locator("#overlay input[type=number]").blur()
    page.wait_for_function(
        "plain => ![...document.querySelectorAll('#stage img')].some(i => i.src === plain)", arg=plain
    )

    page.get_by_role("button", name="Redo a part").click()
    canvas = page.locator("#editor canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(2500)  # the editor settles
    page.locator("#regenerate").click()
    page.wait_for_selector("#status .bad")
    assert "Nothing is painted" in page.locator("#status").inner_text()
    assert page.locator("#overlay input[type=number]").input_value() == "0.6"
    assert page.locator("#stage img").nth(1).get_attribute("src") != plain
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 5, steps=6)
    page.mouse.up()
    page.wait_for_timeout(1000)
    page.locator("#regenerate").click()
    page.wait_for_selector("#gallery button img")
    page.get_by_text("redone once").wait_for()
    first = download(page, "#download", tmp_path / "first.jpg").read_bytes()
    page.locator("#gallery button:has(img)").nth(1).click()
    page.wait_for_timeout(2000)
    second = download(page, "#download", tmp_path / "second.jpg").read_bytes()
    assert len({whole, first, second}) == 3
    assert b"regenerated" in second
    page.get_by_label("Seed").fill("5")  # once more, and what was painted is still there
    page.locator("#regenerate").click()
    page.get_by_text("redone twice").wait_for()
    page.locator("#undo").click()
    page.get_by_text("redone once").wait_for()
    page.locator("#undo").click()
    page.get_by_text("redone once").wait_for(state="detached")
    page.wait_for_timeout(1000)
    undone = download(page, "#download", tmp_path / "undone.jpg").read_bytes()
    assert undone == whole


def test_unsure_places_by_keyboard(page, crop):
    """From the file on, nothing but keys."""
    drop(page, crop)
    page.wait_for_selector("#facts .facts")
    page.locator("#go").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#status .good")
    line = page.get_by_role("slider", name="Line between before and after")
    line.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert line.get_attribute("aria-valuenow") == "40"
    assert "inset(0px 0px 0px 3" in (page.locator("#stage img").nth(1).get_attribute("style") or "")
    page.get_by_role("button", name="Redo a part").focus()
    page.keyboard.press("Enter")
    page.get_by_label("All unsure places").focus()
    page.keyboard.press("Space")
    page.get_by_text("Confidence below").wait_for()
    assert page.locator("#editor").is_visible()  # hidden and shown again, it would lay strokes elsewhere
    page.locator("#below input[type=number]").fill("0.9")
    page.locator("#regenerate").focus()
    page.keyboard.press("Enter")
    page.get_by_text("redone once").wait_for()
    page.locator("#undo").focus()
    page.keyboard.press("Enter")
    page.get_by_text("redone once").wait_for(state="detached")


def test_options_that_cannot_be_are_said_and_nothing_hangs(page, crop):
    drop(page, crop)
    page.wait_for_selector("#facts .facts")
    scale = page.get_by_label("Scale").first
    scale.fill("100")
    page.get_by_text("The scale goes up to 16, got 100").wait_for()
    page.locator("#go").click()
    page.wait_for_selector("#status .bad")
    scale.fill("2")
    page.wait_for_selector("#facts .facts")
    page.wait_for_selector("#status .bad", state="detached")
    page.get_by_role("button", name="More options").first.click()
    steps = page.get_by_label("number input for Steps").first
    for typed in ("99", "", "4"):
        steps.fill(typed)
        page.wait_for_timeout(700)
    assert page.locator(".toast-body").count() == 0
    page.locator("#go").click()
    page.wait_for_selector("#status .good")
    assert "200 × 160 px" in page.locator("#status").inner_text()


def test_more_options_change_nothing_by_being_looked_at(page, crop, weights, tmp_path):
    """And a result's command line is the one of its pixels, in the format chosen now."""
    drop(page, crop)
    page.wait_for_selector("#facts .facts")
    page.get_by_role("button", name="More options").first.click()
    page.get_by_label("Quality").first.wait_for()
    assert page.get_by_label("Quality").first.input_value() == ""
    page.locator("#go").click()
    page.wait_for_selector("#status .good")
    page.get_by_role("button", name="Command line").click()
    page.get_by_label("Scale").first.fill("2")
    page.get_by_text("press Upscale to use these options").wait_for()
    page.get_by_label("Format").first.click()
    page.get_by_role("option", name="webp").click()
    page.get_by_text("sign_x4.webp: 400 × 320 px").wait_for()
    assert "upscale sign.jpg -o sign_x4.webp --model-path" in page.locator(".command").inner_text()
    assert main(["upscale", str(crop), "-o", str(tmp_path / "cli.webp"), "--model-path", str(weights)]) == 0
    assert download(page, "#download", tmp_path / "page.webp").read_bytes() == (tmp_path / "cli.webp").read_bytes()


def test_a_file_that_cannot_be_is_not_handed_out(page, crop):
    upscale(page, crop)
    page.get_by_role("button", name="More options").first.click()
    quality = page.get_by_label("Quality").first
    page.wait_for_timeout(1500)  # the options unfold
    quality.fill("0")
    page.get_by_text("Quality goes from 1 to 100").wait_for()
    assert page.locator("#download").is_disabled()
    quality.fill("")
    page.wait_for_selector("#status .good")
    assert page.locator("#download").is_enabled()


def test_who_waits_for_another_can_cancel_or_leave_at_once(page, browser, url, crop, make_picture):
    page.get_by_label("Careful").first.check()
    begin(page, SIGN)
    page.wait_for_selector("#status progress[value]")
    other = visitor(browser, url)
    begin(other, crop)
    other.get_by_text("1 before this one").wait_for()
    other.locator("#cancel").click()
    other.get_by_text("Cancelled").wait_for()
    other.locator("#go").click()
    other.get_by_text("1 before this one").wait_for()
    third = visitor(browser, url)
    begin(third, crop)
    third.get_by_text("2 before this one").wait_for()
    assert page.locator("#cancel").is_visible()  # that is: while the first one works
    other.get_by_label("Clear").first.click()
    other.wait_for_selector("#status progress", state="detached")
    drop(other, make_picture("noise.png"))
    other.get_by_text("noise.png").first.wait_for()
    third.get_by_text("1 before this one").wait_for()
    other.locator("#go").click()
    other.get_by_text("2 before this one").wait_for()
    third.close()
    other.get_by_text("1 before this one").wait_for()
    other.locator("#cancel").click()
    other.get_by_text("Cancelled").wait_for()
    other.get_by_label("Clear").first.click()
    other.wait_for_selector(".empty")
    begin(other, crop)
    other.get_by_text("1 before this one").wait_for()
    other.get_by_label("Clear").first.click()
    other.wait_for_selector(".empty")
    drop(other, make_picture("noise.png"))
    other.get_by_text("noise.png").first.wait_for()
    page.locator("#cancel").click()
    page.get_by_text("Cancelled").wait_for()
    other.wait_for_timeout(2000)
    assert not other.locator("#download").is_visible()
    assert other.locator("#status").inner_text() == ""
    assert other.locator("#go").is_enabled()
    other.close()


def test_interrupted_at_work_it_ends_quietly(browser, weights):
    command = [sys.executable, "-m", "realsrt", "web", "--port", "0", "--device", "cpu", "--model-path", str(weights)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    page = browser.new_page()
    page.set_default_timeout(WAIT)
    page.goto(server.stdout.readline().split()[1])
    page.wait_for_selector("#go")
    begin(page, SIGN)
    page.wait_for_selector("#status progress[value]")
    server.send_signal(signal.SIGINT)
    page.get_by_text("The server has ended").wait_for()
    assert server.wait(30) == 0
    assert server.stderr.read() == ""
    page.close()


def test_cancel(page):
    begin(page, SIGN)
    page.locator("#cancel").click()
    page.wait_for_selector("#status .bad")
    assert "Cancelled" in page.locator("#status").inner_text()
    page.wait_for_selector("#go")
    assert not page.locator("#download").is_visible()


def test_leaving_the_page_frees_the_model(page, browser, url, crop):
    begin(page, SIGN)
    page.wait_for_selector("#status progress[value]")
    page.close()
    other = visitor(browser, url)
    upscale(other, crop)
    other.close()
    page.context.new_page().goto(url)


@pytest.mark.parametrize("content, says", [(b"no picture", "is not a picture"), (b"", "empty")])
def test_an_invalid_file_is_one_line(page, tmp_path, content, says):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    drop(page, path)
    page.wait_for_function("() => document.querySelector('#status .bad') || document.querySelector('.toast-body')")
    told = page.locator("#status .bad, .toast-body").first.inner_text().lower()
    assert says in told
    assert "\n" not in told.strip() or "toast" in told or says == "empty"
    assert str(tmp_path.parent) not in told


def test_a_picture_too_large_is_one_line(page, make_picture):
    drop(page, make_picture("huge.png", 500, 401, 1))
    page.wait_for_selector("#status .bad")
    assert "huge.png: 500x401 is above the limit of 200,000 pixels" in page.locator("#status").inner_text()


def test_many(page, weights, crop, make_picture, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    page.get_by_role("tab", name="Many pictures").click()
    page.locator("#drop-many input[type=file]").set_input_files([str(crop), str(bad), str(make_picture("noise.png"))])
    page.get_by_text("waiting").first.wait_for()
    page.locator("#go-many").click()
    page.wait_for_selector("#status-many .good")
    assert page.locator("#status-many").inner_text() == "2 done, 1 failed"
    with zipfile.ZipFile(download(page, "#zip", tmp_path / "all.zip")) as packed:
        assert packed.namelist() == ["sign_x4.jpg", "noise_x4.png"]
        made = packed.read("sign_x4.jpg")
    assert main(["upscale", str(crop), "-o", str(tmp_path / "cli.jpg"), "--model-path", str(weights)]) == 0
    assert made == (tmp_path / "cli.jpg").read_bytes()


def test_many_with_options_that_cannot_be(page, crop):
    page.get_by_role("tab", name="Many pictures").click()
    drop(page, crop, "#drop-many")
    page.get_by_text("waiting").first.wait_for()
    page.get_by_label("Scale").last.fill("100")
    page.locator("#go-many").click()
    page.wait_for_selector("#status-many .bad")
    assert "The scale goes up to 16" in page.locator("#status-many").inner_text()
    assert "not done" in page.locator("#table-many").inner_text()
    assert page.locator("#go-many").is_visible()


def test_many_cancelled(page):
    page.get_by_role("tab", name="Many pictures").click()
    drop(page, SIGN, "#drop-many")
    page.get_by_text("waiting").first.wait_for()
    page.locator("#go-many").click()
    page.locator("#cancel-many").click()
    page.get_by_text("Cancelled").wait_for()
    assert "not done" in page.locator("#table-many").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(browser, url, crop, scheme):
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.set_default_timeout(WAIT)
    page.goto(url)
    page.wait_for_selector("#go")
    upscale(page, crop)
    page.get_by_role("button", name="Redo a part").click()
    page.wait_for_timeout(1500)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.get_by_label("All unsure places").check()
    page.locator("#below input[type=number]").fill("0.9")
    page.locator("#regenerate").click()
    page.wait_for_selector("#gallery button img")
    page.get_by_text("redone once").wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    assert page.evaluate("() => document.body.classList.contains('dark')") == (scheme == "dark")
    page.close()
