"""The named schemas of the API document: generated clients make a class of each."""

from typing import Any

import orjson
from apispec import APISpec
from pydantic import BaseModel

from service.model.json_schema import Json, camel

COMPONENT_PATH = "#/components/schemas/"


class Components:
    """Keeps each schema under a name of its own, once; `spec` is the document in which they stand."""

    def __init__(self, spec: APISpec) -> None:
        self.spec = spec

    def put(self, name: str, made: Json) -> Json:
        """Return the reference to a schema. A second schema of a name that is taken gets a number."""
        known, free, number = self.spec.components.schemas, name, 1
        while known.get(free, made) != made:
            number += 1
            free = f"{name}{number}"
        if free not in known:
            self.spec.components.schema(free, made)
        return {"$ref": COMPONENT_PATH + free}

    def hoisted(self, made: Json) -> Json:
        """Return a schema with a reference in place of itself, and of each in it, that has a title to be called by.

        What has members or choices is called by its title; pydantic gives one to all else too.
        """
        whole = {name: self.inside(name, part) for name, part in made.items() if name != "title"}
        if "title" in made and (made.keys() & {"properties", "enum"}):
            return self.put(made["title"], whole)
        return whole

    def inside(self, keyword: str, part: Any) -> Any:
        """Return the value of a keyword with references in place of the schemas in it."""
        if keyword == "properties":
            return {name: self.hoisted(member) for name, member in part.items()}
        if keyword in ("anyOf", "allOf", "prefixItems"):
            return [self.hoisted(member) for member in part]
        if keyword in ("items", "additionalProperties", "then", "else") and isinstance(part, dict):
            return self.hoisted(part)
        return part

    def of_model(self, model: type[BaseModel]) -> Json:
        """Return the reference to the schema of a pydantic model."""
        made = model.model_json_schema(ref_template=COMPONENT_PATH + "{model}")
        for name, part in made.pop("$defs", {}).items():
            self.hoisted(told_members({"title": name, **part}))
        return self.hoisted(told_members(made))

    def of_model_member(self, model: type[BaseModel], name: str) -> Json:
        """Return the schema of a query parameter that a pydantic model reads."""
        made: Json = model.model_json_schema(ref_template=COMPONENT_PATH + "{model}")
        return self.hoisted({**made["properties"][name], "title": camel(f"{made['title']} {name}")})


def told_members(made: Json) -> Json:
    """Return the schema of a pydantic model with what it tells of its members: see `told_member`."""
    members = made.get("properties", {})
    return {**made, "properties": {name: told_member(part, made["title"], name) for name, part in members.items()}}


def told_member(made: Json, owner: str, name: str) -> Json:
    """Return the schema of a member with a title to call its choices by, and its default told to people.

    Not in `default`: see `json_schema.description`.
    """
    whole = {key: part for key, part in made.items() if key != "default"} | {"title": camel(f"{owner} {name}")}
    if made.get("default") is None:
        return whole
    default = f"`{orjson.dumps(made['default']).decode()}` where it is left out"
    return {**whole, "description": "; ".join(filter(None, [made.get("description"), default]))}
