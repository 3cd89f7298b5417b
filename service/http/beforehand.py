"""What takes long and is done before the transaction that a request is part of, for what that writes others wait."""

from collections.abc import Callable
from typing import Any, TypeVar

from service.context import current_service
from service.core.errors import Problem
from service.http.web import current_request
from service.mongo import deadline, transactions

BEFOREHAND = "madang.beforehand"
"""Where a request has what was made for it before its transaction, or the problem that came of it."""

Made = TypeVar("Made")


def beforehand(make: Callable[[], Made]) -> Made:
    """Return what `make` returns, or did return or raise before the transaction of the request at hand."""
    found: Any = current_request().environ.get(BEFOREHAND)
    if isinstance(found, Problem):
        raise found
    made: Made = make() if found is None else found
    return made


def in_transaction(work: Callable[[], Made]) -> Made:
    """Do in one transaction what all was made beforehand for; it has the time of a request of its own."""
    seconds: float = current_service().config["MONGODB_TIMEOUT"]
    return deadline.anew(seconds, lambda: transactions.run(work))


def made_by(make: Callable[[], Any]) -> Any:
    """Return what `make` returns, or the problem that it raises: what `beforehand` is to find."""
    try:
        return make()
    except Problem as problem:
        return problem
