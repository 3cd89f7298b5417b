"""From a document class: what a body has to be, what an answer looks like, and the JSON Schema of both."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal, NotRequired, Required, cast

import orjson
from mongoengine import EmbeddedDocument
from mongoengine import fields as me
from mongoengine.base import BaseDocument, BaseField, ComplexBaseField
from pydantic import AfterValidator, ConfigDict, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails
from typing_extensions import TypedDict

from service.core.errors import MOST_CAUSES, Cause, MalformedJson, ValidationFailed, pointer
from service.model.fields import UnsupportedField, meaning, named, once, own_rules, refers_to
from service.model.values import check_key, wrong

Document = type[BaseDocument]
typed_dict: Any = TypedDict
"""The same, but not for mypy: name and members come from a document."""
Purpose = Literal["read", "create", "patch"]
STRICT = ConfigDict(strict=True, extra="forbid")


@once
def public_fields(document: Document) -> dict[str, BaseField]:
    """Return the fields of `document` that a client sees, by name, in the order of their declaration."""
    return {
        name: document._fields[name]
        for name in document._fields_ordered
        if not getattr(document._fields[name], "hidden", False) and name != "_cls"
    }


@once
def references(document: Document) -> list[tuple[str, BaseField, Any]]:
    """Return name, field and target of those public fields of `document` that point to other documents."""
    found = [(name, field, refers_to(field)) for name, field in public_fields(document).items()]
    return [reference for reference in found if reference[2] is not None]


def annotation(field: BaseField, limited: bool = True) -> Any:
    """Return the pydantic annotation of one value of `field`, ending in BSON form; without its limits for a query."""
    row = meaning(field)
    rules = [*row.limits(field), *own_rules(field)] if limited else []
    value = nested(field, row.value(field), limited)
    if isinstance(field, me.SortedListField):
        rules.append(AfterValidator(field.to_mongo))
    if isinstance(field, me.ListField | me.DictField) and field.required and limited:
        rules.append(AfterValidator(not_empty))
    return Annotated[value, *rules] if rules else value


def nested(field: BaseField, value: Any, limited: bool) -> Any:
    """Return the annotation of a field that holds other fields, or `value` for any other."""
    inner = getattr(field, "field", None)
    if isinstance(field, me.EmbeddedDocumentField):
        return embedded(field.document_type)
    if isinstance(field, me.ListField):
        if inner is None:
            raise UnsupportedField(f"{named(field)} is a list of anything; name the field of its entries")
        return list[annotation(inner, limited)]  # type: ignore[misc]
    if isinstance(field, me.DictField) and inner is not None:
        return dict[Annotated[str, AfterValidator(check_key)], annotation(inner, limited)]  # type: ignore[misc]
    return value


def not_empty(value: Any) -> Any:
    """Return a list or a map that has an entry: what `required` means for them in MongoEngine."""
    if not value:
        raise wrong("too_short", "at least 1 entry")
    return value


def embedded(document: Document) -> Any:
    """Return the annotation of an embedded document."""
    if document._meta.get("allow_inheritance"):
        raise UnsupportedField(f"{document.__name__} allows inheritance, so the class would come from the client")
    if document in held_by(document):
        raise UnsupportedField(f"{document.__name__} holds itself, so a record could be of any depth")
    return Annotated[
        body_type(document), AfterValidator(filler(document)), WithJsonSchema(object_schema(document, "create"))
    ]


def held_by(document: Document, found: frozenset[Document] = frozenset()) -> frozenset[Document]:
    """Return the embedded documents that a document holds, at any depth."""
    for field in public_fields(document).values():
        while getattr(field, "field", None) is not None:
            field = field.field
        if isinstance(field, me.EmbeddedDocumentField) and field.document_type not in found:
            found |= held_by(field.document_type, found | {field.document_type})
    return found


def is_required(field: BaseField) -> bool:
    """Tell whether a new document has to name `field`: it is required and has no default."""
    said = not getattr(field, "read_only", False) and not field.primary_key
    return bool(field.required and said and (field.default is None or isinstance(field, me.ListField | me.DictField)))


def is_fixed(field: BaseField) -> bool:
    """Tell whether `field` is said once, at creation."""
    return bool(field.primary_key or getattr(field, "fixed", False))


def is_nullable(field: BaseField) -> bool:
    """Tell whether JSON `null`, for no value, is a value of `field`."""
    return not field.required and field.default is None


def body_type(document: Document, partial: bool = False) -> Any:
    """Return the TypedDict of a body that makes a whole document, or of a merge patch, whose null clears a field."""
    members: dict[str, Any] = {}
    for name, field in public_fields(document).items():
        if getattr(field, "read_only", False) or (partial and is_fixed(field)):
            members[name] = NotRequired[Annotated[Any, PlainValidator(refuse_read_only)]]
            continue
        value = annotation(field)
        value = value | None if is_nullable(field) or (partial and not is_required(field)) else value
        members[name] = Required[value] if is_required(field) and not partial else NotRequired[value]
    made: Any = typed_dict(document.__name__, members)
    made.__pydantic_config__ = STRICT
    return made


def refuse_read_only(_value: Any) -> None:
    """Refuse a field that only the server sets."""
    raise wrong("read_only", "a field that a client cannot set here")


def filler(document: Document) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function from checked values by name to the BSON form: defaults filled in, no null stored."""
    plan = [(name, field.db_field, default_maker(field)) for name, field in public_fields(document).items()]

    def fill(values: dict[str, Any]) -> dict[str, Any]:
        stored = {}
        for name, db_field, make in plan:
            value = values.get(name)
            if value is None and make is not None:
                value = make()
            if value is not None:
                stored[db_field] = value
        return stored

    return fill


def default_maker(field: BaseField) -> Callable[[], Any] | None:
    """Return what makes the default of `field` in BSON form, None if it has none."""
    # What is empty is the same in BSON; MongoEngine would take 20 µs to find that out.
    empty = isinstance(field, ComplexBaseField) and field.default in (list, dict)
    return field.default if empty or field.default is None else partial(default_of, field)


def default_of(field: BaseField) -> Any:
    """Return the default of `field` in BSON form, None if it has none."""
    value = field.default() if callable(field.default) else field.default
    return None if value is None else field.to_mongo(value)


def adapter(annotated: Any) -> TypeAdapter[Any]:
    """Return the compiled validator of an annotation, strict about types."""
    bare = getattr(annotated, "__origin__", annotated)
    return TypeAdapter(annotated, config=None if hasattr(bare, "__pydantic_config__") else ConfigDict(strict=True))


@once
def whole(document: Document) -> tuple[TypeAdapter[Any], Callable[[dict[str, Any]], dict[str, Any]]]:
    """Return the compiled validator of a whole body of `document` and the function to its BSON form."""
    return adapter(body_type(document)), filler(document)


@once
def partial_body(document: Document) -> TypeAdapter[Any]:
    """Return the compiled validator of a merge patch of `document`."""
    return adapter(body_type(document, partial=True))


@once
def value_of(field: BaseField, limited: bool = True) -> TypeAdapter[Any]:
    """Return the compiled validator of one value of `field`."""
    return adapter(annotation(field, limited))


def load(document: Document, body: Any) -> dict[str, Any]:
    """Return a whole new `document` in BSON form from a decoded JSON `body`.

    Raises `ValidationFailed` with every cause at once, `MalformedJson` when the body is not an object.
    """
    validator, fill = whole(document)
    content = fill(checked(validator, as_object(body)))
    check_rules(document, content)
    return content


def rule(*rules: Any) -> TypeAdapter[Any]:
    """Return the compiled validator of a value that only `rules` check."""
    return adapter(Annotated[Any, *rules])


def required(name: str) -> Cause:
    """Return the cause that a body lacks a member."""
    return Cause("required", "this field is required", pointer=pointer(name))


MAX_LEVELS = 64
"""Most levels of a JSON text: more than any document has, and less than any library that reads it later can take."""


def decoded(text: bytes) -> Any:
    """Return the value of a JSON text in UTF-8 (RFC 8259), without NUL in its strings and of bounded depth.

    Raises `MalformedJson`, and `ValidationFailed` for a NUL, which other software would take for the end of a string.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"not JSON in UTF-8: {error}") from None
    # Most texts can have neither, which two searches tell; only the others are walked.
    suspicious = b"\\u0000" in text or text.count(b"[") + text.count(b"{") > MAX_LEVELS
    if suspicious and (found := list(islice(nul_places(value), MOST_CAUSES))):
        raise ValidationFailed(found)
    return value


def nul_places(value: Any) -> Iterator[Cause]:
    """Yield a cause for every string, and every name of a member, with NUL; raises `MalformedJson` if too deep."""
    rest: list[tuple[Any, tuple[str | int, ...]]] = [(value, ())]
    while rest:
        found, place = rest.pop()
        if len(place) > MAX_LEVELS:
            raise MalformedJson(f"JSON of more than {MAX_LEVELS} levels")
        if isinstance(found, str) and "\0" in found:
            yield Cause("nul", "text without NUL characters", pointer=pointer(*place))
        members = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
        for name, member in members:
            if isinstance(name, str) and "\0" in name:
                yield Cause("nul", "a name without NUL characters", pointer=pointer(*place, name))
            rest.append((member, (*place, name)))


MAX_MEMBERS = 1000
"""Most members of a body: more than any document has; each unknown one costs as much as a whole good note."""


def as_object(body: Any) -> dict[str, Any]:
    """Return a decoded body that is an object; raises `MalformedJson` for any other, and for one of many members."""
    if not isinstance(body, dict):
        raise MalformedJson("the body has to be a JSON object")
    if len(body) > MAX_MEMBERS:
        raise MalformedJson(f"the body has more than {MAX_MEMBERS} members")
    return body


def checked(validator: TypeAdapter[Any], value: Any, *place: str | int) -> Any:
    """Return `value` as `validator` makes it; raises `ValidationFailed` with pointers that begin at `place`."""
    try:
        return validator.validate_python(value)
    except ValidationError as error:
        raise ValidationFailed(causes(error, place)) from None


def causes(error: ValidationError, place: Iterable[str | int] = ()) -> list[Cause]:
    """Return what pydantic found as causes of a problem document."""
    found = []
    for detail in error.errors(include_url=False, include_input=False):
        steps = detail["loc"][:-1] if detail["type"] == "key" and detail["loc"][-1:] == ("[key]",) else detail["loc"]
        found.append(Cause(*code_and_detail(detail), pointer=pointer(*place, *steps)))
    return found


WORDING: Mapping[str, tuple[str, str]] = {
    "missing": ("required", "this field is required"),
    "extra_forbidden": ("unknown_field", "there is no such field"),
    "string_type": ("wrong_type", "a string"),
    "int_type": ("wrong_type", "a whole number"),
    "int_parsing": ("wrong_type", "a whole number"),
    "int_from_float": ("wrong_type", "a whole number"),
    "bool_type": ("wrong_type", "true or false"),
    "bool_parsing": ("wrong_type", "true or false"),
    "float_type": ("wrong_type", "a number"),
    "float_parsing": ("wrong_type", "a number"),
    "list_type": ("wrong_type", "a list"),
    "dict_type": ("wrong_type", "an object"),
    "string_too_long": ("too_long", "at most {max_length} characters"),
    "string_too_short": ("too_short", "at least {min_length} characters"),
    "bytes_too_long": ("too_long", "at most {max_length} bytes"),
    "too_long": ("too_long", "at most {max_length} entries"),
    "too_short": ("too_short", "at least {min_length} entries"),
    "greater_than_equal": ("too_small", "at least {ge}"),
    "less_than_equal": ("too_large", "at most {le}"),
    "literal_error": ("not_allowed", "one of {expected}"),
}


def code_and_detail(error: ErrorDetails) -> tuple[str, str]:
    """Return the stable code of a pydantic error and the sentence that says what would be right."""
    code, wording = WORDING.get(error["type"], ("", ""))
    context = error.get("ctx")
    if not wording or (context is None and "{" in wording):
        # Not pydantic's own: the error of a rule in `fields`, whose code may be the same.
        return error["type"], error["msg"]
    text = wording.format(**(context or {}))
    return code, text.replace(" 1 characters", " 1 character").replace(" 1 entries", " 1 entry")


def check_rules(document: Document, content: dict[str, Any]) -> None:
    """Raise `ValidationFailed` where the document's own `clean`, MongoEngine's place for this, refuses `content`."""
    if not has_rules(document):
        return
    if found := list(broken_rules(hydrated(document, content))):
        raise ValidationFailed(found)


def broken_rules(instance: Any, *place: str | int) -> Iterator[Cause]:
    """Yield the causes that the `clean` of a document and of those embedded in it name."""
    try:
        instance.clean()
    except me.ValidationError as error:
        yield from rule_causes(error, place)
    for name in public_fields(type(instance)):
        value = instance._data.get(name)
        members = enumerate(value) if isinstance(value, list) else ((None, value),)
        for index, member in members:
            if isinstance(member, EmbeddedDocument):
                yield from broken_rules(member, *place, name, *(() if index is None else (index,)))


def rule_causes(error: me.ValidationError, place: Iterable[str | int]) -> list[Cause]:
    """Return the causes that an author's `clean` named: one for each field of `errors`, or one for the whole."""
    named_fields = {name: str(detail) for name, detail in (error.errors or {}).items()}
    if not named_fields:
        return [Cause("not_valid", error.message, pointer=pointer(*place))]
    return [Cause("not_valid", detail, pointer=pointer(*place, name)) for name, detail in named_fields.items()]


@once
def has_rules(document: Document) -> bool:
    """Tell whether `document`, or one embedded in it, has rules over several fields, in a `clean` of its own."""
    return any(kind.clean is not BaseDocument.clean for kind in (document, *held_by(document)))


def hydrated(document: Document, content: Mapping[str, Any]) -> Any:
    """Return the MongoEngine object of `content` in BSON form."""
    return document._from_son(dict(content))


# --- Answers ---------------------------------------------------------------------------------------------------------


@once
def shaper(document: Document) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function that turns a stored `document` into its JSON form, and gives it back: there is no copy.

    Most of a stored document is JSON already, so the function mends what is not. It is compiled once per type, without
    a loop: dumping a page is what a list spends its time on, and a new dict takes twice the instructions.
    """
    names: dict[str, Any] = {}
    fields = public_fields(document)
    renamed = {name: field.db_field for name, field in fields.items() if field.db_field != name}
    steps = [
        *(f"r{number} = d.pop({stored!r}, None)" for number, stored in enumerate(renamed.values())),
        *(f"if {stored!r} in d: del d[{stored!r}]" for stored in hidden(document)),
        *(f"d[{name!r}] = r{number}" for number, name in enumerate(renamed)),
        *(mending(name, field, names) for name, field in fields.items()),
        # More than that is what a newer server has stored.
        f"return d if len(d) == {len(fields)} else dict(zip({tuple(fields)!r}, ({', '.join(map(member, fields))},)))",
    ]
    exec("def shape(d):\n " + "\n ".join(steps), names)  # noqa: S102  only our own names
    return cast("Callable[[dict[str, Any]], dict[str, Any]]", names["shape"])


def member(name: str) -> str:
    """Return the expression of a member of the dict `d`."""
    return f"d[{name!r}]"


@once
def hidden(document: Document) -> list[str]:
    """Return the stored names of those fields of `document` that no client sees."""
    seen = public_fields(document)
    return [field.db_field for name, field in document._fields.items() if name not in seen]


def mending(name: str, field: BaseField, names: dict[str, Any]) -> str:
    """Return the Python statement that gives the member `name` of the dict `d` its JSON form."""
    names[local := f"v{len(names)}"] = None  # so that the next one gets another name
    shaped, nothing = shape_expression(field, local, names), absent(field, names)
    if shaped != local:
        return f"d[{name!r}] = {nothing} if ({local} := d.get({name!r})) is None else {shaped}"
    if field.db_field != name:
        return f"if d[{name!r}] is None: d[{name!r}] = {nothing}"
    # Null is never stored.
    return f"if {name!r} not in d: d[{name!r}] = {nothing}"


def display(document: Document, stored: str, names: dict[str, Any]) -> str:
    """Return the expression that shapes the embedded `document` that the Python variable `stored` holds.

    Functions and values that it needs go to `names`.
    """
    fields = public_fields(document)
    plain = all(shape_of(field) is None and field.db_field == name for name, field in fields.items())
    members = (
        f"{name!r}: {expression(field, f'{stored}.get({field.db_field!r})', names)}" for name, field in fields.items()
    )
    new = "{" + ", ".join(members) + "}"
    if not plain:
        return new
    optional = [f"{name!r} in {stored}" for name, field in fields.items() if not field.required]
    whole = " and ".join([f"len({stored}) == {len(fields)}", *optional])
    return f"({stored} if {whole} else {new})"


def expression(field: BaseField, value: str, names: dict[str, Any]) -> str:
    """Return the Python expression that shapes what the expression `value` gives: a stored value of `field` or None."""
    names[local := f"v{len(names)}"] = None  # so that the next one gets another name
    shaped, nothing = shape_expression(field, local, names), absent(field, names)
    if shaped == local and nothing == "None":
        return value
    return f"({nothing} if ({local} := {value}) is None else {shaped})"


def absent(field: BaseField, names: dict[str, Any]) -> str:
    """Return the Python expression of what a `field` is in JSON that is not stored: its default."""
    if callable(field.default) and field.default not in (list, dict):
        names[local := f"v{len(names)}"] = lambda: json_default(field)
        return f"{local}()"
    # What JSON holds is written in Python the same way, and a display is quicker than a call.
    return repr(json_default(field))


def shape_expression(field: BaseField, local: str, names: dict[str, Any]) -> str:
    """Return the expression that shapes the stored value of `field` that is in the variable `local`."""
    inner = getattr(field, "field", None)
    if isinstance(field, me.EmbeddedDocumentField):
        return display(field.document_type, local, names)
    if inner is not None:
        entry = f"{local}e"
        shaped = shape_expression(inner, entry, names)
        if shaped == entry:
            return local
        if isinstance(field, me.ListField):
            return f"[{shaped} for {entry} in {local}]"
        return f"{{{local}k: {shaped} for {local}k, {entry} in {local}.items()}}"
    if (shape := meaning(field).shape(field)) is None:
        return local
    names[f"{local}_shape"] = shape
    return f"{local}_shape({local})"


def json_default(field: BaseField) -> Any:
    """Return the default of `field` in JSON form."""
    shape, default = shape_of(field), default_of(field)
    return default if shape is None or default is None else shape(default)


@once
def shape_of(field: BaseField) -> Callable[[Any], Any] | None:
    """Return the function from BSON to JSON of a value of `field`; None where the two are the same."""
    names: dict[str, Any] = {}
    shaped = shape_expression(field, "v", names)
    if shaped == "v":
        return None
    return cast("Callable[[Any], Any]", eval(f"lambda v: {shaped}", names))  # noqa: S307  only our own names


def dump(document: Document, stored: Mapping[str, Any], only: Iterable[str] | None = None) -> dict[str, Any]:
    """Return a stored `document` in JSON form: all public fields, or `only` those named."""
    shaped = shaper(document)({**stored})
    return shaped if only is None else {name: shaped[name] for name in only}


def load_stored(field: BaseField, text: Any) -> Any:
    """Return the BSON form of a JSON value of `field` by its type alone, as a query names it."""
    return value_of(field, False).validate_python(text)


# --- JSON Schema -----------------------------------------------------------------------------------------------------


@once
def object_schema(document: Document, purpose: Purpose) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a `document` that is read, created or patched."""
    fields = public_fields(document)
    schema: dict[str, Any] = {
        "type": "object",
        "description": (document.__doc__ or document.__name__).split("\n")[0],
        "properties": {
            name: field_schema(field, purpose)
            for name, field in fields.items()
            if purpose == "read" or not (getattr(field, "read_only", False) or (purpose == "patch" and is_fixed(field)))
        },
        "additionalProperties": False,
    }
    required = list(fields) if purpose == "read" else [name for name, field in fields.items() if is_required(field)]
    if required and purpose != "patch":
        schema["required"] = required
    if purpose == "patch":
        schema["properties"] |= operator_schemas(fields)
    return schema


def operator_schemas(fields: Mapping[str, BaseField]) -> dict[str, Any]:
    """Return the JSON Schema of each update operator that some of the `fields` take."""
    found: dict[str, Any] = {}
    for name, field in fields.items():
        for operator in sorted(meaning(field).update) if not getattr(field, "read_only", False) else ():
            operators = found.setdefault(operator, {"type": "object", "properties": {}, "additionalProperties": False})
            operators["properties"][name] = operand_schema(field)
    return found


def operand_schema(field: BaseField) -> dict[str, Any]:
    """Return the JSON Schema of what an update operator takes for `field`: a value, or for a list one or several."""
    if not isinstance(field, me.ListField):
        return value_of(field, False).json_schema()
    entry = value_schema(field.field, "create")
    each = {"type": "array", "items": entry}
    several = {"type": "object", "properties": {"each": each}, "required": ["each"], "additionalProperties": False}
    return {"anyOf": [entry, several]}


def field_schema(field: BaseField, purpose: Purpose) -> dict[str, Any]:
    """Return the JSON Schema of a field."""
    schema = value_schema(field, purpose)
    if is_nullable(field) or (purpose == "patch" and not field.required):
        schema = {"anyOf": [schema, {"type": "null"}]}
    if text := getattr(field, "help_text", None):
        schema["description"] = text
    if purpose == "read" and getattr(field, "read_only", False):
        schema["readOnly"] = True
    if purpose == "create" and field.default is not None and not field.primary_key:
        schema["default"] = json_default(field)
    return schema


def value_schema(field: BaseField, purpose: Purpose) -> dict[str, Any]:
    """Return the JSON Schema of a value of `field`."""
    inner = getattr(field, "field", None)
    if isinstance(field, me.EmbeddedDocumentField):
        return object_schema(field.document_type, "read" if purpose == "read" else "create")
    if isinstance(field, me.ListField) and inner is not None:
        limits = {"maxItems": field.max_length} if field.max_length is not None else {}
        least = {"minItems": 1} if field.required else {}
        return {"type": "array", "items": value_schema(inner, purpose), **least, **limits}
    if isinstance(field, me.DictField) and inner is not None:
        return {"type": "object", "additionalProperties": value_schema(inner, purpose)}
    return value_of(field).json_schema() | told_limits(field)


def told_limits(field: BaseField) -> dict[str, Any]:
    """Return the limits of `field` that its validator does not tell pydantic, as far as JSON Schema can say them."""
    told = {
        "maxLength": getattr(field, "max_length", None) if isinstance(field, me.StringField) else None,
        "minimum": field.min_value if isinstance(field, me.FloatField) else None,
        "maximum": field.max_value if isinstance(field, me.FloatField) else None,
    }
    pattern = getattr(field, "regex", None)
    if pattern is not None and not pattern.flags & re.IGNORECASE:
        told["pattern"] = pattern.pattern
    return {name: value for name, value in told.items() if value is not None}
