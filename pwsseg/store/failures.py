"""What obstore's errors mean to a person: one sentence each, whatever the bucket answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from pwsseg.store.location import bucket_of, endpoint, on_s3
from pwsseg.values import StoreError

LOST = ("error sending request", "timed out", "connection closed", "error decoding response body")
"""How an error begins whose request may have been carried out all the same."""

NO_BUCKET = "NoSuchBucket"

CAUSES = (
    (
        (NO_BUCKET,),
        "the bucket {bucket} does not exist at {where}; create it, or correct --store or AWS_ENDPOINT_URL",
    ),
    (
        ("Missing AccessKeyId", "Missing SecretAccessKey", "/latest/api/token", "/latest/meta-data"),
        "no credentials were found for {location}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run "
        "where a role gives them",
    ),
    (
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
        "{where} does not accept the credentials for {location}; correct AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    ),
    (
        ("RequestTimeTooSkewed",),
        "{where} says that this machine's clock is wrong; set the clock, then run the same command again",
    ),
    (
        ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocation", "configured region"),
        "the bucket {bucket} is in another region than AWS_REGION says; set AWS_REGION to the bucket's own",
    ),
    (
        ("AccessDenied", "PermissionDenied {", "Unauthenticated {", "403 Forbidden", "401 Unauthorized"),
        "permission denied for {location}; these credentials need s3:GetObject, PutObject, DeleteObject and "
        "ListBucket there",
    ),
    (
        ("dns error", "invalid URL", "InvalidUri", "relative URL"),
        "{where} can't be found; correct AWS_ENDPOINT_URL or AWS_REGION, or look at the network",
    ),
    (
        ("tcp connect error", "kind: Connect"),
        "{where} can't be reached; look at the network and AWS_ENDPOINT_URL, then run the same command again",
    ),
    (
        ("TimedOut", "timed out", "kind: Timeout"),
        "{where} did not answer in time for {location}; run the same command again, what is done is kept",
    ),
)
"""What stands in the error's text, and what to say then; the first that fits counts."""


@contextmanager
def in_words(location: str) -> Iterator[None]:
    """Turn an error of obstore into a StoreError with a sentence."""
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        raise StoreError(sentence(location, error)) from error


def sentence(location: str, error: Exception) -> str:
    """What went wrong at `location`, and what to do."""
    text = str(error)
    first = re.sub(r"\s+", " ", text.partition("\n")[0])[:200]
    if not on_s3(location):
        return f"the store {location} can't be used ({first}); look at the disk and its permissions"
    where = endpoint() or "Amazon S3"
    for marks, said in CAUSES:
        if any(mark in text for mark in marks):
            return said.format(location=location, bucket=bucket_of(location), where=where)
    return f"{where} failed for {location} ({first}); run the same command again, what is done is kept"


def answer_lost(error: BaseError) -> bool:
    """Whether the request may have been carried out though no answer came."""
    return any(mark in str(error) for mark in LOST)
