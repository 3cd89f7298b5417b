"""Who asks, as a document class is told of it."""

from collections.abc import Sequence
from typing import Protocol


class Who(Protocol):
    """An account that acts, by one of its sessions: what hooks are given of an `Identity` (`service/policy.py`).

    `groups` are the ids of those that it is a member of, `managed` of those for which it acts.
    """

    @property
    def account(self) -> str:
        """The id of the account."""
        ...

    @property
    def session(self) -> str:
        """The id of the session, empty where there is none."""
        ...

    @property
    def roles(self) -> Sequence[str]:
        """The names of its roles."""
        ...

    @property
    def groups(self) -> Sequence[str]:
        """The ids of its groups."""
        ...

    @property
    def managed(self) -> Sequence[str]:
        """The ids of the groups that it manages."""
        ...
