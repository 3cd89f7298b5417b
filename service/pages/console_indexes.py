"""The indexes in the console: what each costs, which nobody uses, which lists are slow, and what mends it."""

from typing import Any

from flask import current_app

from service.context import current_registry
from service.documents import SlowList
from service.http.openapi import operation
from service.http.web import Answer
from service.mongo import connection
from service.mongo.raw import Raw
from service.pages.account import ABOUT
from service.pages.console_plots import size_told, time_told
from service.pages.console_visit import Visitor, for_admins
from service.upkeep import indexes
from service.upkeep.index_costs import index_costs

MOST_SLOW_LISTS = 50
WALKED_TOO_MANY = 10
"""Keys for each record that is found, above which an index does not fit."""


@operation("Look at the indexes", **ABOUT)
@for_admins
def indexes_page(visitor: Visitor) -> Answer:
    """Show what was slow, and each index with its bytes and uses, which mongomock does not know."""
    visitor.log.note("read", "indexes")
    is_memory = connection.is_memory(current_app.config["MONGODB_URI"])
    costs = [] if is_memory else index_costs(current_registry())
    values: dict[str, Any] = {"costs": costs, "slow": slow_lists(), "size": size_told, "time": time_told}
    changes = indexes.changes(current_registry())
    states = {kind: [one for one in changes if one.kind == kind] for kind in ("missing", "different", "unused")}
    values |= {"states": states, "idle": [one for one in costs if one.is_idle]}
    return visitor.shown("console/indexes.html", is_memory=is_memory, advice=advice_on, **values)


def slow_lists() -> list[Raw]:
    """Return the kinds of lists that were slow, those that took longest first."""
    return list(SlowList._get_collection().find({}, sort=[("seconds", -1)], limit=MOST_SLOW_LISTS))


def advice_on(row: Raw) -> str:
    """Return the name of the text that says what would make a kind of list quick."""
    if not row["index"]:
        return "slow_without_sort"
    if "keys" not in row:
        return "slow_not_explained"
    walks = row["keys"] > WALKED_TOO_MANY * max(1, row.get("found", 0))
    return "slow_walks" if walks else "slow_machine"


INDEX_ROUTES: list[tuple[str, str, Any]] = [("GET", "/admin/indexes", indexes_page)]
