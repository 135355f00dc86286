"""A store over HTTP for a viewer on this machine: loopback only, read only, behind a token.

with serving(store.objects) as url:          # http://127.0.0.1:41231/<token>
    ...                                      # <url>/scans/<case>/zarr.json, with range requests
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

from pwsseg.store.objects import Objects

HELD = 8
"""Objects that are kept in memory: a viewer asks for one shard's chunks in many requests."""
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@contextmanager
def serving(objects: Objects, extra: Mapping[str, bytes] | None = None) -> Iterator[str]:
    """Serve the objects of a store, and `extra` ones by key, while the context lasts; yields the URL."""
    token = secrets.token_urlsafe(16)
    more = dict(extra or {})

    @lru_cache(HELD)
    def stored(key: str) -> bytes | None:
        return objects.read(key)

    class Handler(_Handler):
        def found(self) -> bytes | None:
            given, _, key = unquote(self.path).lstrip("/").partition("/")
            if not secrets.compare_digest(given.encode(), token.encode()) or ".." in key.split("/"):
                return None
            return more[key] if key in more else stored(key)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{token}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    """GET, HEAD and what browsers ask first, for any page: the token is what keeps others out."""

    protocol_version = "HTTP/1.1"

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
        """That a page from elsewhere may ask for ranges."""
        self.send_response(204)
        self._allow()
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: a viewer asks hundreds of times."""

    def _answer(self, *, body: bool) -> None:
        data = self.found()
        if data is None:
            self.send_response(404)
            self._allow()
            self.send_header("Content-Length", "0")
            self.end_headers()
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

    def _allow(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "Range")
        self.send_header("Access-Control-Expose-Headers", "Content-Range, Content-Length, Accept-Ranges")


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
