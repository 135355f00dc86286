"""What can go wrong for a user: one sentence that says what was found, what was expected, what to do.

Jobs and the command line print these sentences and exit with 1; anything else is a bug and keeps its
traceback.
"""

SHOWN = 120
"""Letters of a value that a sentence repeats: a file may hold one of any length."""


class PwssegError(Exception):
    """Base of every error that is meant to be read by the person who ran the command."""


class InputError(PwssegError):
    """A file or table given by the user can't be used."""


class SettingsError(PwssegError):
    """A round, scale or option is unknown, malformed or contradicts another."""


class StoreError(PwssegError):
    """The store lacks what was asked for, or refuses what was tried."""


class DivergedError(PwssegError):
    """A training's loss is no number; from the same checkpoint it would be so again."""


def shown(value: object) -> str:
    """A value as a sentence repeats it: its `repr`, cut where that is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def first_line(error: Exception) -> str:
    """The first line of what an error of others says, or its type's name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def word(text: str) -> str:
    """A word of a file as it stands, if it is one; else as `shown` has it."""
    return text if text.isalnum() and len(text) <= SHOWN else shown(text)
