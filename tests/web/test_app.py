"""The page as it is served, without a browser."""

import re

import pytest

pytest.importorskip("gradio")
import httpx

from realsrt.cli import main
from realsrt.web.app import POLICY, application, build
from realsrt.web.options_panel import MOST_WAITING


@pytest.fixture
def page(engine, tmp_path):
    return build(engine, tmp_path)


def test_every_input_has_a_label(page):
    for block in page.blocks.values():
        if hasattr(block, "label") and getattr(block, "interactive", None) is not False:
            named = block.label or (block.get_block_name() in ("button", "downloadbutton") and block.value)
            assert named or block.get_block_name() in ("html", "state", "tab", "accordion"), block


def test_jobs_wait_at_the_engine_and_no_handler_is_an_api(page):
    fns = list(page.fns.values())
    assert sum(fn.concurrency_id == "model" for fn in fns) == 3
    assert all(fn.concurrency_limit == MOST_WAITING for fn in fns if fn.concurrency_id == "model")
    assert all(fn.api_visibility == "private" for fn in fns)


@pytest.mark.anyio
async def test_the_page_names_no_other_server_and_says_so_to_the_browser(engine, tmp_path):
    transport = httpx.ASGITransport(app=application(engine, tmp_path))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/")
        css = (await client.get("/theme.css")).text
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    fetched = re.findall(r'(?:src|href)="(https?:)?//([^"]+)"', answer.text)
    assert fetched == []
    assert not re.search(r"url\(['\"]?https?:", css)
    assert "fonts.googleapis" not in answer.text


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize("options", [["--port", "70000"], ["--max-pixels", "0"], ["--model-name", "none"]])
def test_usage_is_one_line(capsys, options):
    assert main(["web", *options]) in (1, 2)
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_taken_port_is_one_line(weights, capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["web", "--port", str(port), "--model-path", str(weights)]) == 2
    told = capsys.readouterr().err
    assert told.endswith(f"cannot listen on 127.0.0.1:{port}: Address already in use; try another --port or --host\n")
