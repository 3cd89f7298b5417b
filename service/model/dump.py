"""From BSON to JSON: the function that shapes a stored document, compiled once for each type, and its plain twin.

Dumping a page is what a list spends its time on. `compiled` and `plain` give the same; the tests hold them against each
other. Neither changes the document that it is given. Other software may have stored what is no value of its field, or
what JSON cannot say: that is found here, and nowhere else.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn, cast

from bson import Int64

from service.core.errors import Unreadable
from service.model.field import Field

Shape = Callable[[Any], Any]


# --- As it is meant --------------------------------------------------------------------------------------------------


def plain(fields: Mapping[str, Field], stored: Any, *place: str | int) -> dict[str, Any]:
    """Return a stored document, or one that is embedded at a `place`, in JSON form. Raises `Unreadable`."""
    if not isinstance(stored, dict):
        raise unreadable(stored, place)
    return {name: plain_value(field, stored.get(field.stored), *place, name) for name, field in fields.items()}


def plain_value(field: Field, value: Any, *place: str | int) -> Any:
    """Return a stored value of `field`, or None, in JSON form: what is not stored is the default."""
    if value is None:
        value = field.default()
    return None if value is None else plain_content(field, value, *place)


def plain_content(field: Field, value: Any, *place: str | int) -> Any:
    """Return a stored value of `field`, or of an entry of one, in JSON form."""
    if field.document is not None:
        return plain(field.members, value, *place)
    if field.entry is None:
        return plain_leaf(field, value, *place)
    if not isinstance(value, list if field.is_list else dict):
        raise unreadable(value, place)
    if field.is_list:
        return [plain_content(field.entry, entry, *place, index) for index, entry in enumerate(value)]
    return {key: plain_content(field.entry, entry, *place, key) for key, entry in dict(value).items()}


def plain_leaf(field: Field, value: Any, *place: str | int) -> Any:
    """Return a stored value that is in one piece in JSON form."""
    meaning = field.meaning
    shape, kinds = meaning.shape(field.declared), meaning.kinds(field.declared)
    try:
        if shape is not None:
            return shape(value)
        found = value if type(value) in kinds else meaning.mend(value)
        if type(found) in kinds and (meaning.holds is None or meaning.holds(found)):
            return found
    except Exception as error:
        # Whatever a value that nobody has thought of makes of it.
        raise unreadable(value, place) from error
    raise unreadable(value, place)


def unreadable(value: Any, place: tuple[str | int, ...]) -> Unreadable:
    """Return the problem of a stored value; what it is stays with us."""
    return Unreadable(type(value).__name__, place)


# --- Compiled --------------------------------------------------------------------------------------------------------


def compiled(fields: Mapping[str, Field], hidden: Iterable[str]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the function that turns a stored document into its JSON form; it raises `Unreadable`.

    Most of a stored document is JSON already, so the function copies it, looks at the types of what it holds, and mends
    what is not: a third less work than to make a new one member by member. Texts in a list, and what stands in embedded
    documents and geometries that are JSON already, it does not look at, which would take as long as all the rest:
    orjson refuses what JSON cannot say. Where something is not as it should be, `plain` finds out what.
    """
    names: dict[str, Any] = {**KINDS, "type": type, "odd": odd, "otherwise": partial(plain, fields)}
    renamed = {field.stored: f"r{number}" for number, field in enumerate(fields.values()) if field.stored != field.name}
    members = ", ".join(f"d[{name!r}]" for name in fields)
    steps = [
        "d = {**stored}",
        *(f"{variable} = d.pop({stored!r}, None)" for stored, variable in renamed.items()),
        *(line for field in fields.values() for line in mending(field, renamed.get(field.stored), names)),
        f"if len(d) == {len(fields)}: return d",
        *(f"if {stored!r} in d: del d[{stored!r}]" for stored in hidden if stored not in fields),
        # More than that is what a newer server has stored.
        f"return d if len(d) == {len(fields)} else dict(zip({tuple(fields)!r}, ({members},)))",
    ]
    text = "\n  ".join(["def shape(stored):\n try:", *steps]) + "\n except Exception: return otherwise(stored)"
    exec(text, names)  # noqa: S102  only our own names
    return cast("Callable[[Mapping[str, Any]], dict[str, Any]]", names["shape"])


KINDS: Mapping[str, type] = {kind.__name__: kind for kind in (str, int, float, bool, dict, list, Int64)}
"""The types of values that are the same in BSON and in JSON."""


def odd() -> NoReturn:
    """Leave the quick way: a stored value is not as it should be."""
    raise TypeError


def mending(field: Field, renamed: str | None, names: dict[str, Any]) -> list[str]:
    """Return the lines of Python that look at a member of the dict `d`, and give it its JSON form.

    One that is stored under another name is in a variable, which is None where it is not stored.
    """
    place = f"d[{field.name!r}]"
    moved = [] if renamed is None else [f"{place} = {renamed}"]
    if field.is_required and field.read_only:
        # The server itself has stored it; that it is there has to be known all the same.
        return [*moved, *looking(field, place, names)]
    lines = [*moved, *looking(field, place, names)]
    is_absent = f"{field.name!r} not in d" if renamed is None else f"{renamed} is None"
    return [f"if {is_absent}: {place} = {absent(field, names)}", "else:", *(f" {line}" for line in lines)]


def looking(field: Field, place: str, names: dict[str, Any]) -> list[str]:
    """Return the lines of Python that look at what is stored at a place, and give it its JSON form."""
    local = new_name(names)
    if field.entry is None:
        if is_json(field):
            return [f"if {other_than_json(field, place)}: odd()"]
        return [f"{local} = {place}", f"{place} = {shape_expression(field, local, names)}"]
    entry, shaped = new_name(names), shape_expression(field, local, names)
    part = other_than_whole(field.entry, entry) if field.entry.document else other_than_json(field.entry, entry)
    if part is None:
        return [f"{local} = {place}", f"{place} = {shaped}"]
    otherwise = f"{local} = {place}; {place} = {shaped}; break" if field.entry.document else "odd()"
    kind, entries = ("list", place) if field.is_list else ("dict", f"{place}.values()")
    check = f"if type({place}) is not {kind}: odd()"
    if field.entry.is_text and field.entry.document is None:
        # A list of tags would cost as much as all members that are in one piece.
        return [check]
    return [check, f"for {entry} in {entries}:", f" if {part}: {otherwise}"]


def new_name(names: dict[str, Any]) -> str:
    """Return a name that is not taken yet."""
    names[local := f"v{len(names)}"] = None
    return local


def other_than_json(field: Field, value: str) -> str | None:
    """Return the expression of whether what `value` gives is not the JSON form of a value of `field`, or None.

    None where BSON and JSON are not the same, or may not be inside of it.
    """
    if not is_json(field):
        return None
    kinds = ("list" if field.is_list else "dict",) if field.entry is not None else names_of_kinds(field)
    other = f"type({value}) is not {kinds[0]}" if len(kinds) == 1 else f"type({value}) not in ({', '.join(kinds)})"
    # orjson writes null for what is no number.
    return f"{other} or {value} - {value} != 0" if "float" in kinds else other


def names_of_kinds(field: Field) -> tuple[str, ...]:
    """Return the names of the types of a value that is in one piece."""
    return tuple(kind.__name__ for kind in field.meaning.kinds(field.declared))


def other_than_whole(field: Field, value: str) -> str | None:
    """Return the expression of whether the embedded document in the variable `value` is not its JSON form already.

    None where it seldom is, or `field` holds none.
    """
    if field.document is None or any(one.stored != name or not is_json(one) for name, one in field.members.items()):
        return None
    absent = [f"{name!r} not in {value}" for name, one in field.members.items() if not one.is_required]
    return " or ".join([f"len({value}) != {len(field.members)}", *absent])


def is_json(field: Field) -> bool:
    """Tell whether the BSON and the JSON form of the values of `field` are the same, but for defaults."""
    if field.document is not None:
        return False
    return shape_of(field) is None if field.entry is None else is_json(field.entry)


def shape_of(field: Field) -> Shape | None:
    """Return the function from BSON to JSON of a value that is in one piece; None where the two are the same."""
    return field.meaning.shape(field.declared)


def shape_expression(field: Field, value: str, names: dict[str, Any]) -> str:
    """Return the expression of the JSON form of a stored value of `field` that is in the variable `value`."""
    if field.document is not None:
        return display(field, value, names)
    if field.entry is not None:
        entry = new_name(names)
        shaped = shape_expression(field.entry, entry, names)
        if field.is_list:
            return f"([{shaped} for {entry} in {value}] if type({value}) is list else odd())"
        return f"{{{entry}k: {shaped} for {entry}k, {entry} in {value}.items()}}"
    if (shape := shape_of(field)) is None:
        return f"(odd() if {other_than_json(field, value)} else {value})"
    names[local := f"{new_name(names)}_shape"] = shape
    return f"{local}({value})"


def display(field: Field, stored: str, names: dict[str, Any]) -> str:
    """Return the expression that shapes the embedded document of `field` that the variable `stored` holds.

    Functions and values that it needs go to `names`.
    """
    members = []
    for name, member in field.members.items():
        local = new_name(names)
        shaped = shape_expression(member, local, names)
        found = f"({local} := {stored}.get({member.stored!r}))"
        members.append(f"{name!r}: ({absent(member, names)} if {found} is None else {shaped})")
    new = "{" + ", ".join(members) + "}"
    other = other_than_whole(field, stored)
    return new if other is None else f"({new} if {other} else {stored})"


def absent(field: Field, names: dict[str, Any]) -> str:
    """Return the Python expression of what a `field` is in JSON that is not stored: its default."""
    default = field.declared.default
    if callable(default) and default not in (list, dict):
        names[local := f"v{len(names)}"] = lambda: json_default(field)
        return f"{local}()"
    # What JSON holds is written in Python the same way, and a display is quicker than a call.
    return repr(json_default(field))


def json_default(field: Field) -> Any:
    """Return the default of `field` in JSON form. Raises `Unreadable` for what is no value of it."""
    return plain_value(field, None, field.name)
