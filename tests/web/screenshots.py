"""Pictures of the page for docs/: python tests/web/screenshots.py URL docs/images, while `realsrt web` shows URL."""

import io
import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from realsrt.io import image as imageio

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
SIGN = Path(__file__).parents[2] / "examples" / "sign.jpg"
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}


def main(url: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    inputs = out / "inputs"
    inputs.mkdir(exist_ok=True)
    picture = imageio.read(SIGN)
    imageio.write(inputs / "sign.jpg", replace(picture, pixels=picture.pixels[75:205, 60:235].copy()), quality=95)
    (inputs / "broken.jpg").write_text("no picture")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.set_default_timeout(120_000)
                page.goto(url)
                states(
                    page, inputs, lambda name, page=page, end=f"{size}-{scheme}": shot(page, out, f"web-{name}-{end}")
                )
                page.close()
        browser.close()
    for path in inputs.iterdir():
        path.unlink()
    inputs.rmdir()


def shot(page: Page, out: Path, name: str) -> None:
    page.wait_for_timeout(1200)
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    if image.width > 1000:
        image = image.resize((1000, round(image.height * 1000 / image.width)), Image.Resampling.LANCZOS)
    image.save(out / f"{name}.jpg", quality=70, optimize=True, progressive=True)


def states(page: Page, inputs: Path, take) -> None:
    page.wait_for_selector("#go")
    take("1-empty")
    page.locator("#drop input[type=file]").set_input_files(inputs / "broken.jpg")
    page.wait_for_selector("#status .bad")
    take("2-error")
    page.locator("#drop input[type=file]").set_input_files(inputs / "sign.jpg")
    page.wait_for_selector("#facts .facts")
    page.locator("#go").click()
    page.wait_for_selector("#stage img")
    take("3-step")
    page.wait_for_selector("#status .good")
    page.locator("#overlay input[type=number]").fill("0.5")
    page.locator("#overlay input[type=number]").blur()
    page.wait_for_timeout(2000)
    take("4-confidence")
    page.locator("#overlay input[type=number]").fill("0")
    page.locator("#overlay input[type=number]").blur()
    page.get_by_role("button", name="Redo a part").click()
    canvas = page.locator("#editor canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(2500)
    box = canvas.bounding_box()
    assert box
    x, y = box["x"] + box["width"] * 0.45, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 5, y + 6, steps=8)
    page.mouse.up()
    page.wait_for_timeout(1000)
    page.locator("#regenerate").click()
    page.wait_for_selector("#gallery button img")
    page.get_by_text("redone once").wait_for()
    take("5-redone")
    page.get_by_role("tab", name="Many pictures").click()
    page.locator("#drop-many input[type=file]").set_input_files([inputs / "sign.jpg", inputs / "broken.jpg"])
    page.get_by_text("waiting").first.wait_for()
    page.locator("#go-many").click()
    page.wait_for_selector("#status-many .good")
    take("6-many")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
