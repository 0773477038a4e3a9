"""The page in Debian's Chromium, by Playwright."""

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
WAIT = 60_000  # ms
AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"


def context(browser, size="desktop", scheme="light"):
    """Somebody's browser: cookies and storage of its own."""
    width, height = SIZES[size]
    phone = size == "phone"
    made = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True, has_touch=phone,
        is_mobile=phone, device_scale_factor=2 if phone else 1,
    )  # fmt: skip
    made.set_default_timeout(WAIT)
    return made


def opened(context, url):
    """The page, once it has begun."""
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(url)
    page.wait_for_selector("body[data-begun]")
    return page


def state(page, *states):
    page.wait_for_selector(", ".join(f"body[data-state={name}]" for name in states))


def drop(page, *paths):
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_selector("#viewer:not([hidden])")


def upscaled(page, path):
    drop(page, path)
    page.click("#go")
    state(page, "done")


def download(page, button, target):
    with page.expect_download() as waiting:
        page.click(button)
    waiting.value.save_as(target)
    return waiting.value.suggested_filename, target.read_bytes()


def stroke(page, *places):
    """Drag over the picture, through places in shares of the stage."""
    box = page.locator("#view-one").bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=6)
    page.mouse.up()


@dataclass
class Trace:
    """What Chromium noted of a page, in milliseconds. first_paint: from the navigation to the first contents.
    frames: between one drawn frame and the next. tasks: of the page's main thread, what of the CPU's time each took."""

    first_paint: float | None = None
    frames: list[float] = field(default_factory=list)
    tasks: list[float] = field(default_factory=list)


@contextmanager
def traced(browser, page):
    """A Trace that is filled at the end."""
    kinds = ["blink.user_timing", "loading", "disabled-by-default-devtools.timeline"]
    browser.start_tracing(page=page, categories=[*kinds, "disabled-by-default-devtools.timeline.frame"])
    trace = Trace()
    yield trace
    events = json.loads(browser.stop_tracing())["traceEvents"]

    def times(name):
        return sorted(event["ts"] for event in events if event["name"] == name)

    begun = [e["ts"] for e in events if e["name"] == "navigationStart" and e["args"]["data"].get("documentLoaderURL")]
    if begun and (painted := times("firstContentfulPaint")):
        trace.first_paint = (painted[0] - begun[0]) / 1000
    drawn = [event for event in events if event["name"] == "DrawFrame"]
    trace.frames = [(b - a) / 1000 for a, b in pairwise(times("DrawFrame"))]
    main = {event["pid"] for event in drawn}  # the renderer's; its main thread has the process's number
    tasks = [event for event in events if event["name"] == "RunTask" and event["pid"] in main]
    trace.tasks = [event["tdur"] / 1000 for event in tasks if event["tid"] == event["pid"] and "tdur" in event]


def serious(page):
    """What axe-core finds that is serious or critical."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']})")
    return [
        f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
