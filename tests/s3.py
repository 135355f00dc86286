"""An S3 on loopback for the tests: moto's server in a process of its own, and before it a proxy that fails.

moto speaks S3, conditional puts included, and checks what it is told to check. The proxy counts every
request, and answers some of them as a bad day at S3 does. It lets one put at a time through: moto looks for
the object and puts its own in two steps, which S3 does in one.
"""

from __future__ import annotations

import http.client
import itertools
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = "scans"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
SERVER = """
import sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"

Fault = Callable[["Proxy", "_Handler"], None]


class Proxy:
    """Passes requests on to the server behind it; `plan` says which fault, if any, meets each request."""

    def __init__(self, port: int) -> None:
        self.behind = port
        self.plan: Callable[[str, str], Fault | None] = lambda _method, _path: None
        self.requests: Counter[str] = Counter()
        self.paths: list[str] = []
        self._puts = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """The requests made inside, by kind: get, put, list, delete."""
        before = Counter(self.requests)
        made: Counter[str] = Counter()
        yield made
        made.update(self.requests - before)

    def failing(self, fault: Fault, *, times: int, of: str = "PUT", key: str = "") -> None:
        """The next `times` requests of this method whose path ends in `key` meet the fault."""
        left = itertools.count(times, -1)

        def plan(method: str, path: str) -> Fault | None:
            hit = method == of and path.partition("?")[0].endswith(key) and next(left) > 0
            return fault if hit else None

        self.plan = plan

    def forward(self, handler: _Handler) -> tuple[int, list[tuple[str, str]], bytes]:
        """The answer of the server behind."""
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=60)
        with self._puts if handler.command == "PUT" else nullcontext(), closing(connection):
            connection.request(
                handler.command, handler.path, body=handler.body, headers=dict(handler.headers)
            )
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    body = b""

    def _any(self) -> None:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        listing = self.command == "GET" and "list-type=2" in self.path
        kind = "list" if listing else {"POST": "delete"}.get(self.command, self.command.lower())
        proxy.requests[kind] += 1
        proxy.paths.append(f"{self.command} {self.path}")
        fault = proxy.plan(self.command, self.path)
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked has gone
            if fault is None:
                self.answer(*proxy.forward(self))
            else:
                fault(proxy, self)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815

    def answer(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_arguments: Any) -> None:
        return


# faults


def internal_error(_proxy: Proxy, handler: _Handler) -> None:
    handler.answer(500, [], b"<Error><Code>InternalError</Code></Error>")


def slow_down(_proxy: Proxy, handler: _Handler) -> None:
    handler.answer(503, [], SLOW_DOWN)


def dropped(_proxy: Proxy, handler: _Handler) -> None:
    handler.hang_up()


def answer_lost(proxy: Proxy, handler: _Handler) -> None:
    """What was asked is done; only the answer never comes."""
    proxy.forward(handler)
    handler.hang_up()


def error_after_all(proxy: Proxy, handler: _Handler) -> None:
    """What was asked is done; the answer says that it was not."""
    proxy.forward(handler)
    internal_error(proxy, handler)


def too_slow(proxy: Proxy, handler: _Handler) -> None:
    """What was asked is done; the answer comes when nobody waits any more."""
    answer = proxy.forward(handler)
    time.sleep(1.5)
    handler.answer(*answer)


FAULTS = (internal_error, slow_down, dropped, answer_lost, error_after_all, too_slow)


@contextmanager
def s3_server() -> Iterator[Proxy]:
    """A server with one empty bucket, and the proxy before it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    proxy = Proxy(int(process.stdout.readline()))
    try:
        make_bucket(proxy, BUCKET)
        yield proxy
    finally:
        proxy.close()
        process.kill()
        process.wait()


def make_bucket(proxy: Proxy, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.behind, timeout=60)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    connection.close()
