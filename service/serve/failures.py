"""Why the service does not start, or goes on no longer: the message is for the person at the terminal."""

CANNOT_START, GAVE_UP = 2, 69
"""Exit codes of a program that say: it is of no use to start it again."""


class CannotStart(Exception):
    """It cannot start, and could not at a second attempt."""

    code = CANNOT_START


class Unreachable(CannotStart):
    """MongoDB does not answer; another start may find it."""

    code = 1


class MongodError(CannotStart):
    """A local MongoDB could not be started or set up."""


class Exited(MongodError):
    """The mongod that is being started has ended."""
