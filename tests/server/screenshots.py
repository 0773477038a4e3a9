"""Pictures of the page for docs/: python tests/server/screenshots.py URL docs/images, while `realsrt web` shows URL."""

import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.append(str(Path(__file__).parents[1]))

from realsrt.io import image as imageio
from support.browser import CHROMIUM, FLAGS, SIZES, context, drop, opened, state, stroke

SIGN = Path(__file__).parents[2] / "examples" / "sign.jpg"


def main(url: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        picture = imageio.read(SIGN)
        sign, other, bad = (Path(folder) / name for name in ("sign.jpg", "pole.jpg", "broken.jpg"))
        imageio.write(other, replace(picture, pixels=picture.pixels[20:110, 60:180].copy()), quality=95)
        bad.write_text("no picture")
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        for number, size in enumerate(SIZES):
            for scheme in ("light", "dark"):
                x = 60 + 2 * number + (scheme == "dark")  # another picture each time: nothing comes from memory
                imageio.write(sign, replace(picture, pixels=picture.pixels[75:205, x : x + 175].copy()), quality=95)
                person = context(browser, size, scheme)
                person.set_default_timeout(300_000)
                page = opened(person, url)

                def take(name, page=page, end=f"{size}-{scheme}"):
                    page.wait_for_timeout(1200)
                    shot = page.screenshot(full_page=end.startswith("phone"))
                    image = Image.open(io.BytesIO(shot)).convert("RGB")
                    width = min(image.width, 1100 if end.startswith("desktop") else 585)
                    image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
                    image.save(out / f"web-{name}-{end}.jpg", quality=72, optimize=True, progressive=True)

                states(page, take, sign, other, bad)
                person.close()
        browser.close()


def states(page, take, sign: Path, other: Path, bad: Path) -> None:
    take("1-empty")
    drop(page, sign)
    take("2-ready")
    page.click("#go")
    page.wait_for_selector("#steps:not([hidden])")
    take("3-step")
    state(page, "done")
    page.wait_for_selector("#unsure:not([disabled])")
    page.click("#sure")
    take("4-sure")
    page.click("#sure")
    page.click("[data-tool=brush]")
    page.locator("#stage").scroll_into_view_if_needed()
    stroke(page, (0.66, 0.45), (0.72, 0.55), (0.8, 0.6))
    page.click("#regenerate-go")
    page.wait_for_selector("#choices:not([hidden])")
    page.locator("#candidate-list button").last.scroll_into_view_if_needed()
    take("5-regenerated")
    drop(page, other, bad)
    page.click("#go-all")
    page.get_by_text("3 pictures · 2 done · 1 failed").wait_for()
    page.locator("#film-list button").first.click()
    take("6-many")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
