"""What every command has: its parser, the store it looks at, its answer as text or JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pwsseg.store import Store

DEFAULT_STORE = "pwsseg-store"


class Commands:
    """The commands of one parser; each is a function whose docstring is its help."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(self, function: Any, *, positional_store: bool = False) -> argparse.ArgumentParser:
        """A command of the function's name; with `positional_store` it takes STORE as its argument, too."""
        text = function.__doc__.splitlines()[0]
        parser = self._parsers.add_parser(
            function.__name__, help=text[0].lower() + text[1:].rstrip("."), description=text
        )
        if positional_store:
            parser.add_argument("location", nargs="?", metavar="STORE", help="the same as --store STORE")
        parser.add_argument(
            "--store",
            help=f"folder or s3://bucket/prefix (default: the variable PWSSEG_STORE, then ./{DEFAULT_STORE})",
        )
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
        parser.set_defaults(command=function, location=None)
        return parser


def store_given(args: argparse.Namespace) -> str | None:
    """The store that was named, by an argument or by PWSSEG_STORE; None when the default is meant."""
    from pwsseg.values import SettingsError

    if args.location and args.store and args.location != args.store:
        raise SettingsError(f"two stores were given, {args.location} and {args.store}; give one")
    return args.location or args.store or os.environ.get("PWSSEG_STORE") or None


def store_of(args: argparse.Namespace) -> Store:
    """The store that the command was given."""
    from pwsseg.store import Store

    return Store.open(store_given(args) or DEFAULT_STORE)


def answer(args: argparse.Namespace, value: Any, text: str) -> int:
    """Print the answer, as JSON where that was asked for; exit code 0."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n" if args.json else text)
    return 0
