"""A document class, compiled: from JSON to what is stored, back again, and the description of both."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

import orjson

from service.core import metrics
from service.core.errors import Unreadable
from service.core.json_text import as_object
from service.core.log import log
from service.model import dump, json_schema, load
from service.model.field import Document, Field, hidden_names, public_fields
from service.model.json_schema import Purpose
from service.model.parts import Member, Part, part_at
from service.model.validation import Validator, validate, validator


class Schema:
    """What clients may send and get of a document class.

    All that is derived from the class is kept here, made at its first use, and goes with it. `fields` are those that
    clients see, by name. Raises `UnsupportedField` for a class that cannot be derived.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.fields: Mapping[str, Field] = public_fields(document)
        self.hidden = hidden_names(document)
        self.validators: dict[tuple[Field, bool], Validator] = {}

    def compile(self) -> None:
        """Derive now what most writes need. Raises `UnsupportedField`."""
        _ = self.body, self.patch_body, self.has_rules

    # --- JSON to BSON ---

    @cached_property
    def body(self) -> Validator:
        """The validator of a whole body."""
        return validator(load.body_type(self.document.__name__, self.fields))

    @cached_property
    def patch_body(self) -> Validator:
        """The validator of a merge patch."""
        return validator(load.body_type(self.document.__name__, self.fields, partial=True))

    @cached_property
    def fill(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """The function from checked values by name to the BSON form, with defaults."""
        return load.filler(self.fields)

    @cached_property
    def has_rules(self) -> bool:
        """Whether the document, or one embedded in it, has a `clean` of its own."""
        return load.has_rules(self.document, self.fields)

    @cached_property
    def owner_only_fields(self) -> Mapping[str, Field]:
        """The fields that only the owner writes, by name."""
        return {name: field for name, field in self.fields.items() if field.owner_only}

    @cached_property
    def owner_only(self) -> frozenset[str]:
        """The stored names of the fields that only the owner writes."""
        return frozenset(field.stored for field in self.owner_only_fields.values())

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        """The parts that are whole fields, by name."""
        return {name: Part((Member(field),), field) for name, field in self.fields.items()}

    def part(self, path: str) -> Part | None:
        """Return the part that a name or a path leads to, None where there is none."""
        return self.parts.get(path) or part_at(self.fields, path)

    def load(self, body: Any) -> dict[str, Any]:
        """Return a whole new document in BSON form from a decoded JSON `body`.

        Raises `ValidationFailed` with every cause at once, `MalformedJson` when the body is not an object.
        """
        content = self.fill(validate(self.body, as_object(body)))
        if self.has_rules:
            load.check_rules(self.document, content)
        return content

    def value(self, field: Field) -> Validator:
        """Return the validator of one value of a field, or of an entry of one, with its limits."""
        return self.validator_of(field, True)

    def typed(self, field: Field) -> Validator:
        """Return the validator of one value of a field by its type alone, as a query names it."""
        return self.validator_of(field, False)

    def validator_of(self, field: Field, limited: bool) -> Validator:
        """Return the validator of one value of a field, made at its first use."""
        known = self.validators.get((field, limited))
        if known is None:
            known = self.validators[field, limited] = validator(load.annotation(field, limited))
        return known

    # --- BSON to JSON ---

    @cached_property
    def dump(self) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """The function from a stored document to its JSON form; the document stays as it is.

        It raises `Unreadable`. What it gives, orjson may still refuse: then `is_readable` says no.
        """
        return dump.compiled(self.fields, self.hidden)

    def shaped(self, field: Field, value: Any) -> Any:
        """Return a stored value of a field, or None, in JSON form. Raises `Unreadable`."""
        return None if value is None else dump.plain_content(field, value, field.name)

    def member(self, field: Field, stored: Mapping[str, Any]) -> Any:
        """Return the value of a field of a stored document in JSON form. Raises `Unreadable`."""
        return dump.plain_value(field, stored.get(field.stored), field.name)

    def check_readable(self, stored: Mapping[str, Any]) -> None:
        """Raise `Unreadable` where JSON cannot say all of a stored document; log and count that."""
        try:
            dump.plain(self.fields, stored)
        except Unreadable as problem:
            name, place = self.document.__name__, ".".join(map(str, problem.place))
            metrics.UNREADABLE.labels(name).inc()
            log.error("unreadable", document=name, id=str(stored.get("_id")), place=place, stored_as=problem.kind)
            raise

    def is_readable(self, stored: Mapping[str, Any]) -> bool:
        """Tell whether JSON can say all of a stored document; see `check_readable`."""
        with suppress(Unreadable, TypeError):
            # Most can be, and this finds it out in a tenth of the time.
            orjson.dumps(self.dump(stored))
            return True
        try:
            self.check_readable(stored)
        except Unreadable:
            return False
        return True

    # --- The description ---

    def json_schema(self, purpose: Purpose) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the document as it is read, created or patched."""
        return json_schema.of_object(self.document, self.fields, purpose)
