"""Searching records: those that have the words, ranked by how well they answer, a page of them."""

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import NamedTuple

from service.documents.record import WORDS
from service.model.record_type import RecordType
from service.mongo import driver
from service.mongo.driver import Selection
from service.mongo.portion import PORTION_BYTES, Portion
from service.mongo.raw import Filter, Raw
from service.query.parse import Query
from service.query.search import RANK, Rank, Scale, Search

MOST_RANKED = 1000
"""Most records that are ranked: of more, those with every word, and then as MongoDB finds them."""
MOST_LETTERS_READ = 4_000_000
"""Most letters of words that are read to rank records: of very long texts they are fewer than `MOST_RANKED`."""
READ_AT_ONCE = 100
"""Records whose words are read at once, so that they need not be in memory all together."""
UNDATED = datetime(1970, 1, 1)
"""When what other software has stored was made, where it does not say so."""


def page(type: RecordType, asked: Query, search: Search, condition: Filter, tags: Sequence[str]) -> Portion:
    """Return the rows of a page of a search with their rank.

    They fulfil `condition`, and have their words under one of the `tags`.
    """
    if not search.terms:
        return Portion([], False, 0)
    ranks = sorted(ranks_of(type, search, condition, tags), key=rank_key)
    if asked.behind is not None:
        ranks = [rank for rank in ranks if rank.key > asked.behind.key]
    rows: list[Raw] = []
    size = 0
    while ranks and len(rows) <= asked.limit and size <= PORTION_BYTES:
        # What has changed since it was ranked may be missing: then there are more to take.
        missing = asked.limit + 1 - len(rows)
        found, taken = ranked_rows(type, asked, condition, ranks[:missing])
        rows, size, ranks = rows + found.rows, size + found.size, ranks[taken:]
    return Portion(rows[: asked.limit], bool(ranks) or len(rows) > asked.limit, size)


class Ranking(NamedTuple):
    """The ranks of records, and whether these are all that there are."""

    ranks: list[Rank]
    is_whole: bool


def ranks_of(type: RecordType, search: Search, condition: Filter, tags: Sequence[str]) -> list[Rank]:
    """Return the ranks of the records that are ranked."""
    scale = Scale(search)
    found = ranking(type, {"$and": [condition, search.filter(tags)]}, scale)
    if found.is_whole or len(search.terms) == 1:
        return found.ranks
    best = ranking(type, {"$and": [condition, search.filter(tags, strict=True)]}, scale)
    return list({rank.id: rank for rank in (*best.ranks, *found.ranks)}.values())[:MOST_RANKED]


def ranking(type: RecordType, condition: Filter, scale: Scale) -> Ranking:
    """Return the ranks of records that fulfil a condition, which MongoDB looks up by their words."""
    asked = {f"{WORDS}.t": 1, "created_at": 1}
    ranks: list[Rank] = []
    read = 0
    rows = type.collection.find(condition, asked, limit=MOST_RANKED + 1, batch_size=READ_AT_ONCE).hint(WORDS)
    with closing(rows):
        for row in rows:
            if len(ranks) == MOST_RANKED or read > MOST_LETTERS_READ:
                return Ranking(ranks, is_whole=False)
            texts = [text["t"] for text in row[WORDS]]
            read += sum(map(len, texts))
            ranks.append(Rank(scale.score(texts), made_at(row), row["_id"]))
    return Ranking(ranks, is_whole=True)


def made_at(row: Raw) -> datetime:
    """Return when a record was made."""
    moment = row.get("created_at")
    return moment if isinstance(moment, datetime) else UNDATED


def rank_key(rank: Rank) -> tuple[int, float, str]:
    """Return what ranks are sorted by."""
    return rank.key


def ranked_rows(type: RecordType, asked: Query, condition: Filter, ranks: Sequence[Rank]) -> tuple[Portion, int]:
    """Return the rows of the first of these ranks in their order, as far as they fulfil the condition still.

    With it, of how many ranks: of all where their rows fit into a page.
    """
    wanted = {"$and": [{"_id": {"$in": [rank.id for rank in ranks]}}, condition]}
    found = driver.portion(Selection(type.collection, wanted, asked.projection, limit=len(ranks), hint="_id_"))
    if found.more:
        # Those that did not come may be better than those that did.
        return ranked_rows(type, asked, condition, ranks[: len(ranks) // 2])
    rows = {row["_id"]: row for row in found.rows}
    return found._replace(rows=[{**rows[rank.id], RANK: rank} for rank in ranks if rank.id in rows]), len(ranks)
