"""A store over HTTP for a viewer on this machine: loopback only, read only, behind a token, for one page.

with serving(store.objects, origin="http://127.0.0.1:41230") as url:     # http://127.0.0.1:41231/<token>
    ...                                      # <url>/scans/<case>/zarr.json, with range requests

Whoever reads without a browser (zarr, curl) needs the token alone. A page in a browser must be the one named:
another origin is refused, and so is a name that was made to point to this machine (DNS rebinding), which the
Host header gives away.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from pwsseg.store.keys import check_key
from pwsseg.store.objects import Objects
from pwsseg.values import StoreError

HELD = 8
"""Objects that are kept in memory: a viewer asks for one shard's chunks in many requests."""
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
ADDRESS = "127.0.0.1"


@contextmanager
def serving(
    objects: Objects, extra: Mapping[str, bytes] | None = None, *, origin: str | None = None
) -> Iterator[str]:
    """Serve the objects of a store, and `extra` ones by key, while the context lasts; yields the URL.

    `origin` is the one web page that may read them; without it none may.
    """
    token = secrets.token_urlsafe(16)
    more = dict(extra or {})

    @lru_cache(HELD)
    def stored(key: str) -> bytes | None:
        return objects.read(key)

    class Handler(_Handler):
        page = origin

        def found(self) -> bytes | None:
            given, _, key = unquote(self.path).lstrip("/").partition("/")
            if not secrets.compare_digest(given.encode(), token.encode()) or not _is_key(key):
                return None
            return more[key] if key in more else stored(key)

    with ThreadingHTTPServer((ADDRESS, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{ADDRESS}:{server.server_port}/{token}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """GET, HEAD and what browsers ask first; nothing else is answered."""

    protocol_version = "HTTP/1.1"
    page: str | None = None
    server: ThreadingHTTPServer

    def found(self) -> bytes | None:
        """The object that the path names; None when there is none, or the token is not ours."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """An object, or the range of it that was asked for."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Whether an object is there, and how long it is."""
        self._answer(body=False)

    def do_OPTIONS(self) -> None:
        """That our page may ask for ranges."""
        self._empty(403 if self._from_elsewhere() else 204)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: a viewer asks hundreds of times."""

    def _answer(self, *, body: bool) -> None:
        if self._from_elsewhere():
            self._empty(403)
            return
        try:
            data = self.found()
        except StoreError:
            self._empty(500)
            return
        if data is None:
            self._empty(404)
            return
        span = _span(self.headers.get("Range", ""), len(data))
        start, stop = span or (0, len(data))
        self.send_response(206 if span else 200)
        self._allow()
        self.send_header("Accept-Ranges", "bytes")
        if span:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if body:
            self.wfile.write(memoryview(data)[start:stop])

    def _from_elsewhere(self) -> bool:
        """Whether the request was sent to another name than ours, or by another page than the one named."""
        port = self.server.server_port
        hosts = [f"{name}:{port}" for name in (ADDRESS, "localhost")]
        said = self.headers.get_all("Host", [])
        origins = self.headers.get_all("Origin", [])
        return len(said) != 1 or said[0] not in hosts or any(o != self.page for o in origins)

    def _empty(self, status: int) -> None:
        self.send_response(status)
        if status != 403:
            self._allow()
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _allow(self) -> None:
        """Who may read the answer; and that a browser keeps no copy of it on the disk."""
        if self.page is not None:
            self.send_header("Access-Control-Allow-Origin", self.page)
            self.send_header("Access-Control-Allow-Headers", "Range")
            self.send_header("Access-Control-Expose-Headers", "Content-Range, Content-Length, Accept-Ranges")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")


def _is_key(key: str) -> bool:
    try:
        check_key(key)
    except StoreError:
        return False
    return True


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """First and last + 1 of a range header, within `size` bytes; None when there is none to honour."""
    found = RANGE.fullmatch(asked.strip())
    if found is None or size == 0:
        return None
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size) if last else None
    start = int(first)
    stop = min(size, int(last) + 1) if last else size
    return (start, stop) if start < stop else None
