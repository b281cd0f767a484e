"""Images from the web come only from named public hosts, only so large, and only if they are images."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from rs_tools.errors import InvalidInput, NotAllowed, RasterError, TooLarge
from rs_tools.fetch import fetch
from rs_tools.raster import open_scene

PUBLIC = "93.184.216.34"


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Web:
    """A web of our own: answers by host and path, names that stand for addresses, and what was asked of whom."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response], names: dict[str, str] | None = None) -> None:
        self.names = names or {}
        self.asked: list[httpx.Request] = []
        self.answer = answer
        self.transport = httpx.MockTransport(self.serve)

    def serve(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answer(request)

    def resolve(self, host: str) -> list[str]:
        return [self.names.get(host, PUBLIC)]

    def fetch(self, url: str, folder: Path, *, max_bytes: int = 10**6) -> Path:
        return fetch(
            url,
            folder,
            allow_hosts=["example.org", "*.tiles.org"],
            max_bytes=max_bytes,
            resolve=self.resolve,
            transport=self.transport,
        )


def test_an_image_is_fetched_from_the_address_that_was_checked_and_can_be_opened(tmp_path: Path) -> None:
    web = Web(lambda request: httpx.Response(200, content=png()))
    path = web.fetch("https://example.org/a.png", tmp_path)
    assert path.suffix == ".png"
    assert open_scene(path).grid.width == 40
    [request] = web.asked
    assert request.url.host == PUBLIC
    assert request.headers["host"] == "example.org"
    assert request.extensions["sni_hostname"] == "example.org"
    assert web.fetch("https://example.org/a.png", tmp_path) == path
    assert len(web.asked) == 1
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.png",
        "ftp://example.org/a.png",
        "file:///etc/passwd",
        "https://example.org:8443/a.png",
        "https://user:word@example.org/a.png",
        "https://evil.org/a.png",
        "https://example.org.evil.org/a.png",
        "https://tiles.org/a.png",
        "https://eviltiles.org/a.png",
        "https://169.254.169.254/latest",
    ],
)
def test_other_hosts_schemes_and_ports_are_not_allowed(tmp_path: Path, url: str) -> None:
    web = Web(lambda request: httpx.Response(200, content=png()))
    with pytest.raises(NotAllowed):
        web.fetch(url, tmp_path)
    assert web.asked == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.8", "192.168.1.1", "172.16.3.4", "169.254.169.254", "0.0.0.0", "::1", "fe80::1%eth0",
     "fd00::1", "::ffff:127.0.0.1", "224.0.0.1", "100.64.0.1"],
)  # fmt: skip
def test_an_allowed_name_that_leads_to_a_private_address_is_not_asked(tmp_path: Path, address: str) -> None:
    web = Web(lambda request: httpx.Response(200, content=png()), {"example.org": address})
    with pytest.raises(NotAllowed, match="private or reserved"):
        web.fetch("https://example.org/a.png", tmp_path)
    assert web.asked == []


def test_redirects_are_followed_within_the_fence_and_not_out_of_it(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/ok":
            return httpx.Response(302, headers={"location": "https://a.tiles.org/b.png"})
        if request.url.path == "/out":
            return httpx.Response(302, headers={"location": "https://169.254.169.254/latest"})
        if request.url.path == "/down":
            return httpx.Response(301, headers={"location": "http://example.org/a.png"})
        if request.url.path == "/loop":
            return httpx.Response(302, headers={"location": "/loop"})
        return httpx.Response(200, content=png())

    web = Web(answer)
    assert web.fetch("https://example.org/ok", tmp_path).is_file()
    for path in ("/out", "/down"):
        with pytest.raises(NotAllowed):
            web.fetch(f"https://example.org{path}", tmp_path)
    with pytest.raises(RasterError, match="redirects"):
        web.fetch("https://example.org/loop", tmp_path)
    assert {request.url.host for request in web.asked} == {PUBLIC}


def test_what_is_too_large_or_no_image_or_missing_leaves_nothing_behind(tmp_path: Path) -> None:
    big = Web(lambda request: httpx.Response(200, content=png() + bytes(2 * 10**6)))
    with pytest.raises(TooLarge, match="max_bytes"):
        big.fetch("https://example.org/a.png", tmp_path)
    page = Web(lambda request: httpx.Response(200, content=json.dumps({"a": 1}).encode()))
    with pytest.raises(RasterError, match="not an image"):
        page.fetch("https://example.org/a.png", tmp_path)
    missing = Web(lambda request: httpx.Response(404))
    with pytest.raises(RasterError, match="404"):
        missing.fetch("https://example.org/a.png", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_connection_and_an_unknown_host_are_errors(tmp_path: Path) -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route", request=request)

    with pytest.raises(RasterError, match="ConnectError"):
        Web(broken).fetch("https://example.org/a.png", tmp_path)

    def nowhere(host: str) -> list[str]:
        raise OSError("no such host")

    with pytest.raises(RasterError, match="no address"):
        fetch("https://example.org/a.png", tmp_path, allow_hosts=["example.org"], resolve=nowhere)
    with pytest.raises(InvalidInput, match="create it first"):
        fetch("https://example.org/a.png", tmp_path / "no", allow_hosts=["example.org"])
