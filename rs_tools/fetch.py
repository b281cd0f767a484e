"""Images from https addresses, fenced: only named hosts, only public addresses, only so many bytes, only images.

The tools never fetch by themselves. A program that wants to read from the web calls `fetch` and passes the file on.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import socket
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from rs_tools.errors import InvalidInput, NotAllowed, RasterError, TooLarge
from rs_tools.raster import sniff

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 200_000_000
MAX_REDIRECTS = 3
SUFFIXES = {"GTiff": ".tif", "PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "JP2OpenJPEG": ".jp2"}

Resolve = Callable[[str], list[str]]


def addresses(host: str) -> list[str]:
    """All addresses that a host name stands for, as text."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]


def fetch(
    url: str,
    folder: str | os.PathLike[str],
    *,
    allow_hosts: Collection[str],
    max_bytes: int = MAX_BYTES,
    timeout: float = 30.0,
    resolve: Resolve = addresses,
    transport: httpx.BaseTransport | None = None,
) -> Path:
    """Download one image into `folder` and return its path; what was fetched before is not fetched again.

    allow_hosts: exact host names, or "*.example.org" for the names below one. Every address of the host must be public,
    and the connection goes to the very address that was checked; redirects are checked in the same way. Nothing is
    kept that does not begin like an image. `transport` replaces the network, for tests.
    Raises NotAllowed, TooLarge, RasterError, InvalidInput.
    """
    import httpx

    target = Path(folder)
    if not target.is_dir():
        raise InvalidInput(f"The folder {target} does not exist: create it first.")
    stem = hashlib.sha256(url.encode()).hexdigest()[:24]
    for suffix in SUFFIXES.values():
        if (target / f"{stem}{suffix}").is_file():
            return target / f"{stem}{suffix}"
    try:
        with httpx.Client(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False) as client:
            place = httpx.URL(url)
            for _ in range(MAX_REDIRECTS + 1):
                pinned, host = _checked(place, allow_hosts, resolve)
                request = client.build_request(
                    "GET",
                    pinned,
                    headers={"Host": host, "Accept-Encoding": "identity"},
                    extensions={"sni_hostname": host},
                )
                response = client.send(request, stream=True)
                try:
                    if not response.is_redirect:
                        return _kept(response, target, stem, host, max_bytes)
                    place = place.join(response.headers["location"])
                finally:
                    response.close()
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{url[:200]!r} is not a URL: pass https://host/path.") from error
    except httpx.HTTPError as error:
        raise RasterError(
            f"{url[:200]!r} could not be fetched ({type(error).__name__}): try again, or download it."
        ) from error
    raise RasterError(f"{url[:200]!r} redirects more than {MAX_REDIRECTS} times: pass the final address.")


def _checked(url: httpx.URL, allow_hosts: Collection[str], resolve: Resolve) -> tuple[httpx.URL, str]:
    """The URL with its host replaced by an address that was found to be public, and the host's name."""
    host = url.host.lower().rstrip(".")
    if url.scheme != "https" or url.port not in (None, 443) or url.userinfo:
        raise NotAllowed(
            "Only plain https addresses on port 443 without a user name are fetched: pass https://host/path."
        )
    allowed = any(
        host == name.lower() or (name.startswith("*.") and host.endswith(name[1:].lower())) for name in allow_hosts
    )
    if not allowed:
        raise NotAllowed(
            f"The host {host!r} is not among the allowed hosts: allow it, or download the file and pass its path."
        )
    try:
        found = resolve(host)
    except OSError as error:
        raise RasterError(f"The host {host!r} has no address: check its name.") from error
    if not found or not all(_is_public(address) for address in found):
        raise NotAllowed(
            f"The host {host!r} leads to a private or reserved address, which is never fetched from: use a public host."
        )
    return url.copy_with(host=found[0]), host


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.split("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    return found.is_global and not found.is_multicast


def _kept(response: httpx.Response, folder: Path, stem: str, host: str, max_bytes: int) -> Path:
    """Write the body to its final place, once all of it is there and begins like an image."""
    if response.status_code != 200:
        raise RasterError(f"{host} answered {response.status_code}: check the address.")
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".fetch-", delete=False) as file:
        part = Path(file.name)
        try:
            size, head = 0, b""
            for chunk in response.iter_bytes(65536):
                size += len(chunk)
                head = head if len(head) >= 16 else (head + chunk)[:16]
                if size > max_bytes:
                    raise TooLarge(
                        f"The file at {host} is larger than {max_bytes:,} bytes: raise max_bytes, or cut it out."
                    )
                file.write(chunk)
            driver = sniff(head)
            if driver is None:
                raise RasterError(
                    f"What {host} sent is not an image: pass the address of a GeoTIFF, PNG, JPEG or WebP."
                )
            file.close()
            return part.replace(folder / f"{stem}{SUFFIXES[driver]}")
        finally:
            part.unlink(missing_ok=True)
