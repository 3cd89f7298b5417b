"""Parts of a push that is too large for one transaction, in an order in which each of them can be done by itself.

MongoDB holds what a transaction has written, with all places in indexes, in its cache until it is committed: with the
least cache that it has (256 MB) one of a megabyte of text takes seconds, and one of two does not come to its end.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from service.core.json_text import encode
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.records.bulk import BulkWrite, Target, targets_of

MOST_IN_PART = 500
MOST_BYTES_IN_PART = 512 * 1024
"""Most rows, and bytes of their JSON, of one transaction."""

Row = TypeVar("Row")


def parts_of(rows: Iterable[Row], content: Callable[[Row], Any]) -> Iterator[list[Row]]:
    """Yield rows in parts that fit into one transaction each; `content` gives what is sent of one."""
    part: list[Row] = []
    size = 0
    for row in rows:
        length = size_of_json(content(row))
        if part and (len(part) >= MOST_IN_PART or size + length > MOST_BYTES_IN_PART):
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part:
        yield part


def size_of_json(content: Any) -> int:
    """Return the bytes of the JSON of what is sent; of more levels than are stored, none."""
    try:
        return len(encode(content))
    except RecursionError:
        return 0


def in_turn(registry: Registry, writes: Mapping[Row, BulkWrite]) -> list[Row]:
    """Return rows in the order in which they are stored one after the other.

    First what is new, what others refer to before these; then what is changed; last what goes, who refers to others
    before these: a rule about references would change it otherwise.
    """
    rank = {type: number for number, type in enumerate(targets_first(registry))}
    new = {(write.type.document, write.id): row for row, write in writes.items() if write.action == "create"}
    made = targets_before(new, {target: targets_of(writes[row]) for target, row in new.items()})
    going = [row for row, write in writes.items() if write.action == "delete"]
    others = [row for row, write in writes.items() if write.action not in ("create", "delete")]
    return [*made, *others, *sorted(going, key=lambda row: -rank[writes[row].type])]


def targets_before(new: Mapping[Target, Row], pointing: Mapping[Target, Sequence[Target]]) -> list[Row]:
    """Return what is new, each behind all that it refers to; of those that refer to each other one is first."""
    found: dict[Target, Row] = {}
    begun: set[Target] = set()
    for target in new:
        rest = [target]
        while rest:
            last = rest[-1]
            begun.add(last)
            deeper = [other for other in pointing[last] if other in new and other not in begun]
            if deeper:
                rest.append(deeper[0])
            else:
                found.setdefault(rest.pop(), new[last])
    return list(found.values())


def targets_first(registry: Registry) -> list[RecordType]:
    """Return the types, each behind those that it refers to, as far as they do not refer to each other."""
    found: dict[RecordType, None] = {}

    def visit(type: RecordType, around: tuple[RecordType, ...]) -> None:
        for reference in type.references.values():
            target = registry.by_document.get(reference.target)
            if target is not None and target not in around:
                visit(target, (*around, target))
        found.setdefault(type)

    for type in registry.values():
        visit(type, (type,))
    return list(found)
