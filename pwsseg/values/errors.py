"""What can go wrong for a user: one sentence that says what was found, what was expected, what to do.

Jobs and the command line print these sentences and exit with 1; anything else is a bug and keeps its
traceback.
"""


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
