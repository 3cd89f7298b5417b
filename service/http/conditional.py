"""Entity tags: those of answers, and those that `If-Match` and `If-None-Match` name (RFC 9110, section 13.1)."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Literal

import orjson

from service.core.errors import BadRequest
from service.http.web import current_request
from service.mongo.raw import Raw
from service.records.precondition import NONE, Precondition, Tags

IF_MATCH, IF_NONE_MATCH = "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"
HEADERS = {IF_MATCH: "If-Match", IF_NONE_MATCH: "If-None-Match"}
"""The names of the headers by those that they have in an environment (PEP 3333)."""
ENTITY_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
BETWEEN = re.compile(r"[ \t]*(?:,[ \t,]*|\Z)")
"""What stands behind each tag of a list; an empty member is no mistake (section 5.6.1)."""
REVISION_TAG = re.compile(r"([1-9][0-9]{0,17})(-[0-9a-f]{16})?")


def etag(record: Raw) -> str:
    """Return the entity tag of a record: its revision."""
    return f'"{int(record["revision"])}"'


def etag_of_answer(record: Raw, item: Any) -> str:
    """Return the entity tag of an answer with more in it than the record: its revision, and a digest of all."""
    digest = hashlib.blake2b(orjson.dumps(item), digest_size=8).hexdigest()
    return f'"{int(record["revision"])}-{digest}"'


def precondition() -> Precondition:
    """Return what the request at hand says of the record that it is about. Raises `BadRequest`."""
    sent = current_request().environ
    if IF_MATCH not in sent and IF_NONE_MATCH not in sent:
        return NONE
    return Precondition(revisions(IF_MATCH), revisions(IF_NONE_MATCH, weak=True))


def revisions(header: str, weak: bool = False) -> Tags | None:
    """Return the revisions that a header names, None where it is not there. Raises `BadRequest`.

    A tag that is none of ours names no revision. Only a `weak` comparison takes weak tags (section 8.8.3.2).
    """
    named = tags(header)
    if named is None or named == "*":
        return named
    found = (REVISION_TAG.fullmatch(tag) for is_weak, tag in named if weak or not is_weak)
    return tuple(int(tag[1]) for tag in found if tag)


def is_known(tag: str) -> bool:
    """Tell whether `If-None-Match` names the entity tag of the answer at hand."""
    named = tags(IF_NONE_MATCH)
    return named is not None and (named == "*" or tag[1:-1] in (text for _, text in named))


def tags(header: str) -> Literal["*"] | Iterator[tuple[bool, str]] | None:
    """Return the entity tags in a header, each with whether it is weak; `*` for any. Raises `BadRequest`."""
    text: str | None = current_request().environ.get(header)
    if text is None:
        return None
    if text.strip(" \t") == "*":
        return "*"
    return tags_in(header, text)


def tags_in(header: str, text: str) -> Iterator[tuple[bool, str]]:
    """Yield the entity tags in the text of a header, one by one: it may have twenty thousand. Raises `BadRequest`."""
    end = len(text) - len(text.lstrip(" \t,"))
    while True:
        tag = ENTITY_TAG.match(text, end)
        between = tag and BETWEEN.match(text, tag.end())
        if not tag or not between:
            raise BadRequest(f'{HEADERS[header]} takes `*` or entity tags in quotes, such as "3"')
        yield bool(tag[1]), tag[2]
        end = between.end()
        if end == len(text):
            return
