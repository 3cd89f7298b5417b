"""From BSON to JSON: the function that shapes a stored document, compiled once for each type, and its plain twin.

Dumping a page is what a list spends its time on. `compiled` and `plain` give the same; the tests hold them against each
other. Neither changes the document that it is given.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from service.model.field import Field

Shape = Callable[[Any], Any]


def plain(fields: Mapping[str, Field], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored document in JSON form: what `compiled` does, written down as it is meant."""
    return {name: plain_value(field, stored.get(field.stored)) for name, field in fields.items()}


def plain_value(field: Field, value: Any) -> Any:
    """Return a stored value of `field`, or None, in JSON form: what is not stored is the default."""
    if value is None:
        value = field.default()
    if value is None:
        return None
    if field.document is not None:
        return plain(field.members, value)
    if field.entry is None:
        shape = field.meaning.shape(field.declared)
        return value if shape is None else shape(value)
    if field.is_list:
        return [plain_value(field.entry, entry) for entry in value]
    return {key: plain_value(field.entry, entry) for key, entry in value.items()}


def compiled(fields: Mapping[str, Field], hidden: Iterable[str]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return the function that turns a stored document into its JSON form.

    Most of a stored document is JSON already, so the function copies it and mends what is not: a third less work than
    to make a new one member by member.
    """
    names: dict[str, Any] = {}
    renamed = {name: field.stored for name, field in fields.items() if field.stored != name}
    members = ", ".join(f"d[{name!r}]" for name in fields)
    steps = [
        "d = {**stored}",
        *(f"r{number} = d.pop({stored!r}, None)" for number, stored in enumerate(renamed.values())),
        *(f"if {stored!r} in d: del d[{stored!r}]" for stored in hidden),
        *(f"d[{name!r}] = r{number}" for number, name in enumerate(renamed)),
        *(mending(field, names) for field in fields.values()),
        # More than that is what a newer server has stored.
        f"return d if len(d) == {len(fields)} else dict(zip({tuple(fields)!r}, ({members},)))",
    ]
    exec("def shape(stored):\n " + "\n ".join(steps), names)  # noqa: S102  only our own names
    return cast("Callable[[Mapping[str, Any]], dict[str, Any]]", names["shape"])


def mending(field: Field, names: dict[str, Any]) -> str:
    """Return the Python statement that gives a member of the dict `d` its JSON form."""
    names[local := f"v{len(names)}"] = None  # so that the next one gets another name
    shaped, nothing = shape_expression(field, local, names), absent(field, names)
    name = field.name
    if shaped != local:
        return f"d[{name!r}] = {nothing} if ({local} := d.get({name!r})) is None else {shaped}"
    if field.stored != name:
        return f"if d[{name!r}] is None: d[{name!r}] = {nothing}"
    # Null is never stored.
    return f"if {name!r} not in d: d[{name!r}] = {nothing}"


def display(fields: Mapping[str, Field], stored: str, names: dict[str, Any]) -> str:
    """Return the expression that shapes the embedded document of these fields that the variable `stored` holds.

    Functions and values that it needs go to `names`.
    """
    is_json = all(shape_of(field) is None and field.stored == name for name, field in fields.items())
    members = (
        f"{name!r}: {expression(field, f'{stored}.get({field.stored!r})', names)}" for name, field in fields.items()
    )
    new = "{" + ", ".join(members) + "}"
    if not is_json:
        return new
    optional = [f"{name!r} in {stored}" for name, field in fields.items() if not field.is_required]
    whole = " and ".join([f"len({stored}) == {len(fields)}", *optional])
    return f"({stored} if {whole} else {new})"


def expression(field: Field, value: str, names: dict[str, Any]) -> str:
    """Return the Python expression that shapes what the expression `value` gives: a stored value of `field` or None."""
    names[local := f"v{len(names)}"] = None  # so that the next one gets another name
    shaped, nothing = shape_expression(field, local, names), absent(field, names)
    if shaped == local and nothing == "None":
        return value
    return f"({nothing} if ({local} := {value}) is None else {shaped})"


def absent(field: Field, names: dict[str, Any]) -> str:
    """Return the Python expression of what a `field` is in JSON that is not stored: its default."""
    default = field.declared.default
    if callable(default) and default not in (list, dict):
        names[local := f"v{len(names)}"] = lambda: json_default(field)
        return f"{local}()"
    # What JSON holds is written in Python the same way, and a display is quicker than a call.
    return repr(json_default(field))


def shape_expression(field: Field, local: str, names: dict[str, Any]) -> str:
    """Return the expression that shapes the stored value of `field` that is in the variable `local`."""
    if field.document is not None:
        return display(field.members, local, names)
    if field.entry is not None:
        entry = f"{local}e"
        shaped = shape_expression(field.entry, entry, names)
        if shaped == entry:
            return local
        if field.is_list:
            return f"[{shaped} for {entry} in {local}]"
        return f"{{{local}k: {shaped} for {local}k, {entry} in {local}.items()}}"
    if (shape := field.meaning.shape(field.declared)) is None:
        return local
    names[f"{local}_shape"] = shape
    return f"{local}_shape({local})"


def json_default(field: Field) -> Any:
    """Return the default of `field` in JSON form."""
    shape, default = shape_of(field), field.default()
    return default if shape is None or default is None else shape(default)


def shape_of(field: Field) -> Shape | None:
    """Return the function from BSON to JSON of a value of `field`; None where the two are the same."""
    names: dict[str, Any] = {}
    shaped = shape_expression(field, "v", names)
    if shaped == "v":
        return None
    return cast("Shape", eval(f"lambda v: {shaped}", names))  # noqa: S307  only our own names
