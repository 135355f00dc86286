"""What every job shares: where the store is, and how an error reaches the person who submitted it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pwsseg.pipelines.cluster import in_copied_working_dir
from pwsseg.pipelines.progress import log_to
from pwsseg.store.location import located, on_s3
from pwsseg.values import PwssegError, SettingsError

DEFAULT_STORE = "pwsseg-store"


def add_store(parser: argparse.ArgumentParser) -> None:
    """The options that every job has."""
    parser.add_argument(
        "--store",
        help="a folder or s3://bucket/prefix (default: the variable PWSSEG_STORE, then ./pwsseg-store)",
    )
    parser.add_argument(
        "--json-log", metavar="FILE", action=_LogTo, help="append one line of JSON a stage to this file"
    )


class _LogTo(argparse.Action):
    """Takes effect as soon as it is read: no job has to pass it on."""

    def __call__(self, *given: Any, **_: Any) -> None:
        """Argparse calls it with parser, namespace, value and option."""
        log_to(Path(given[2]))


def store_location(said: str | None) -> str:
    """--store, else PWSSEG_STORE, else ./pwsseg-store: an absolute path, or s3://bucket/prefix.

    Raises
    ------
    SettingsError
        When it is neither, or the path is relative and the job runs in Ray's temporary copy of the working
        directory, which is deleted with the job.
    """
    given = said or os.environ.get("PWSSEG_STORE") or DEFAULT_STORE
    location = located(given)
    if not on_s3(location) and not Path(given).is_absolute() and in_copied_working_dir():
        raise SettingsError(
            f"the store '{given}' is a relative path, and this job runs in Ray's temporary copy of the "
            f"working directory; give an absolute path by --store or PWSSEG_STORE"
        )
    return location


def run_job(main: Callable[[], int]) -> None:
    """Exit with main's code; an error made for people is one sentence on stderr and code 1."""
    try:
        code = main()
    except PwssegError as error:
        sys.stderr.write(f"error: {error}\n")
        code = 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; what is done is kept, the same command goes on from there\n")
        code = 130
    sys.exit(code)
