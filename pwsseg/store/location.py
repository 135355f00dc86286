"""Where a store is: a folder, or a bucket of S3 with a prefix. Credentials are no part of it.

An S3 client takes credentials, region and endpoint from the AWS_* variables of its own process (else from the
machine's or container's role), so records, logs and pickles can't hold them.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

from obstore.store import LocalStore, MemoryStore, S3Store

from pwsseg.values import SettingsError

Backend = LocalStore | MemoryStore | S3Store

S3_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[A-Za-z0-9._=-]+)*)/*")
OTHER_URL = re.compile(r"[A-Za-z0-9+.-]+:/")

CONNECT_S = 5
REQUEST_S = 300
"""For one whole request with its body: 200 MB at 0.7 MB/s."""
RETRIES = 8
RETRYING_S = 90
"""After this long no request is sent again. Waits grow from 0.1 to 10 s, with jitter."""


def located(location: str | Path) -> str:
    """The location as it is kept: an absolute path, or `s3://bucket/prefix` without a slash at its end.

    SettingsError when it is neither; it doesn't repeat what was given, which may hold a secret.
    """
    text = str(location)
    if not OTHER_URL.match(text):
        return str(Path(location).absolute())
    match = S3_URL.fullmatch(text)
    if match is None or {".", ".."} & set(text.split("/")):
        raise SettingsError(
            "the store's location is neither a folder nor like s3://bucket/prefix (letters, digits and . _ = "
            "- only); correct --store, and give credentials by the AWS_* variables"
        )
    return f"s3://{match['bucket']}{match['prefix']}"


def on_s3(location: str) -> bool:
    """Whether a location that `located` gave is on S3."""
    return location.startswith("s3://")


def bucket_of(location: str) -> str:
    """The bucket of a location on S3."""
    return location.split("/")[2]


def endpoint() -> str | None:
    """The S3 endpoint that the environment names; None is Amazon's own."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def connect(location: str) -> Backend:
    """The objects at a location that `located` gave; sends nothing yet."""
    if not on_s3(location):
        return LocalStore(location)
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    return S3Store(
        bucket,
        prefix=prefix or None,
        client_options={
            "allow_http": (endpoint() or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "timeout": timedelta(seconds=REQUEST_S),
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRYING_S),
            "backoff": {
                "init_backoff": timedelta(seconds=0.1),
                "max_backoff": timedelta(seconds=10),
                "base": 2,
            },
        },
    )
