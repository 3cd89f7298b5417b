"""The query parameters of lists and items of records, as the API document has them."""

import re
from collections.abc import Callable, Iterable, Mapping

from service.model.json_schema import Json, title_of
from service.model.record_type import RecordType
from service.query.parse import DEFAULT_LIMIT, LIMIT, SCOPES


def some_of(names: Iterable[str]) -> Json:
    """Return the JSON Schema of one or several of some names, with commas."""
    some = "|".join(map(re.escape, names))
    return {"pattern": f"^({some})(,({some}))*$"}


PARAMETER_SCHEMAS: Mapping[str, Json] = {
    "where": {"type": "string"},
    "sort": {"type": "string"},
    "limit": {"type": "integer", "minimum": 1, "maximum": LIMIT, "default": DEFAULT_LIMIT},
    "cursor": {"type": "string"},
    "fields": {"type": "string", "examples": ["id,updated_at"]},
    "expand": {"type": "string"},
    "count": {"type": "boolean", "default": False},
    "inline": {"type": "boolean", "default": False},
    "size": {"type": "string"},
    "link": {"type": "string"},
    "search": {"type": "string", "pattern": r"\S", "maxLength": 500},
    "scope": {
        "type": "string",
        "pattern": f"^(?!.*({'|'.join(f'{one}.*{one}' for one in SCOPES)}))" + some_of(SCOPES)["pattern"][1:],
    },
}
NARROWED: Mapping[str, Callable[[RecordType], Json | None]] = {
    "where": lambda record: {"examples": [f'{{"{name}": {{"$exists": true}}}}' for name in list(record.filters)[-1:]]},
    "sort": lambda record: {
        "title": f"{title_of(record.document)}Sort",
        "enum": list(record.sorts),
        "x-enum-varnames": list(map(sort_name, record.sorts)),
    },
    "fields": lambda record: some_of(record.schema.fields),
    "expand": lambda record: some_of(record.references) if record.references else None,
    "search": lambda record: {} if record.search else None,
}
"""What the record type says of the values of a query parameter; None where it has nothing for it."""


def sort_name(sort: str) -> str:
    """Return what generated clients call an order such as `-priority,due`: `PRIORITY_DESCENDING_DUE_ASCENDING`."""
    ends = [f"{key.removeprefix('-')}_{'de' if key.startswith('-') else 'a'}scending" for key in sort.split(",")]
    return re.sub(r"\W", "_", "_".join(ends)).upper()


PARAMETER_TEXTS: Mapping[str, str] = {
    "where": "Which records, as JSON.",
    "sort": "The order; null is lowest, ties end on the id.",
    "limit": "Most records of a page.",
    "types": "Which record types, with commas; all, if none is named.",
    "wait": "Seconds to wait for something new.",
    "subscribe": 'Types with their conditions, as JSON: `{"notes": {"pinned": true}}`; all, if it is left out.',
    "ticket": "In place of the access token, for a browser.",
    "cursor": "The `next` of an earlier answer to the same query.",
    "fields": "Send the id and these fields only, with commas.",
    "expand": "Add what these references point to, in `expanded`, with commas.",
    "link": "In place of the access token: what a link has there.",
    "size": "Get a smaller image of this size: `thumb`, `screen`, or what else the setting `FILES_SIZES` names.",
    "inline": "Show it in place where it is an image, audio, video or a PDF; else it is saved.",
    "count": "Add the `total`, exact up to 10,000; beyond, `total_at_least`.",
    "search": "What words are searched for, best match first; in what is `mine`, or with `scope` in what is `shared`.",
    "last_pulled_at": "The `timestamp` of the last pull; `null`, or none, where there was none.",
    "schema_version": "The version of the schema on the device.",
    "migration": "As JSON, the tables and columns that are new on the device since its last pull, or `null`.",
    "turbo": "Whether a first pull has its rows in `created`, not in `updated`.",
    "tables": "Which tables, with commas; all, if none is named.",
    "lwt": "That of the last answer's `checkpoint`.",
    "id": "That of the last answer's `checkpoint`.",
    "scope": "`mine`, `shared`, `public`, or several with commas.",
}
