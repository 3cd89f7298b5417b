"""The schemas of what the two protocols of sync ask and answer."""

from collections.abc import Callable, Mapping

from service.changes.rxdb_documents import documents_of
from service.changes.watermelon_push import MOST_ROWS
from service.changes.watermelon_rows import columns_of
from service.model.json_schema import Json, title_of
from service.model.record_type import RecordType
from service.model.registry import Registry

IDS: Json = {"type": "array", "items": {"type": "string"}}
NUMBER: Json = {"type": "integer", "format": "int64"}


def object_of(title: str, description: str, properties: Json, *required: str, more: Json | bool = False) -> Json:
    """Return the JSON Schema of an object with a title."""
    made = {"title": title, "type": "object", "description": description, "properties": properties}
    return {**made, "additionalProperties": more, **({"required": [*required]} if required else {})}


def of_watermelon_pull(registry: Registry) -> Json:
    """Return the JSON Schema of the answer to a pull of WatermelonDB."""
    tables = {name: of_pulled_table(type) for name, type in registry.items()}
    changes = object_of("WatermelonChanges", "What has changed, by table.", tables)
    properties = {"changes": changes, "timestamp": {**NUMBER, "description": "`last_pulled_at` of the next pull"}}
    return object_of("WatermelonPull", "All that has changed.", properties, "changes", "timestamp")


def of_pulled_table(type: RecordType) -> Json:
    """Return the JSON Schema of what has changed in one table."""
    rows = {"type": "array", "items": columns_of(type).json_schema()}
    properties = {"created": rows, "updated": rows, "deleted": IDS}
    title = f"{title_of(type.document)}TableChanges"
    return object_of(title, "What has changed in a table.", properties, *properties)


def of_watermelon_push(registry: Registry) -> Json:
    """Return the JSON Schema of the body of a push of WatermelonDB."""
    text = "A row as it is on the device: the columns of the table, `_status` and `_changed`."
    row = object_of("WatermelonRow", text, {"id": {"type": "string"}}, "id", more=True)
    rows: Json = {"type": "array", "items": row, "maxItems": MOST_ROWS}
    table = object_of(
        "WatermelonTable", "What was done in a table.", {"created": rows, "updated": rows, "deleted": IDS}
    )
    return object_of("WatermelonPush", "What was done on the device, by table.", dict.fromkeys(registry, table))


def of_watermelon_problems(_registry: Registry) -> Json:
    """Return the JSON Schema of the answer to a push of WatermelonDB."""
    properties: Json = {
        "table": {"type": "string"},
        "id": {"type": "string"},
        "problem": {"$ref": "#/components/schemas/Problem"},
    }
    row = object_of("WatermelonProblem", "A row that was refused, and why.", properties, *properties)
    return object_of("WatermelonPushed", "What was refused.", {"problems": {"type": "array", "items": row}})


def of_rxdb_pull(type: RecordType) -> Json:
    """Return the JSON Schema of the answer to a pull of RxDB."""
    name = title_of(type.document)
    point: Json = {"id": {"type": "string"}, "lwt": NUMBER}
    checkpoint = object_of("RxdbCheckpoint", "Where the next pull begins.", point, *point)
    properties = {"documents": of_rxdb_conflicts(type), "checkpoint": checkpoint}
    return object_of(f"{name}DocumentPage", "The next documents.", properties, *properties)


def of_rxdb_conflicts(type: RecordType) -> Json:
    """Return the JSON Schema of some documents of RxDB."""
    return {"type": "array", "items": documents_of(type).json_schema()}


def of_rxdb_push(_type: RecordType) -> Json:
    """Return the JSON Schema of the body of a push of RxDB."""
    own: Json = {"id": {"type": "string"}, "_deleted": {"type": "boolean"}}
    state = object_of("RxdbDocument", "A document as it is on the device.", own, "id", more=True)
    assumed: Json = {"anyOf": [{"type": "object", "additionalProperties": {}}, {"type": "null"}]}
    properties = {"newDocumentState": state, "assumedMasterState": assumed}
    row = object_of("RxdbRow", "A document to store.", properties, "newDocumentState")
    return {"type": "array", "items": row, "maxItems": MOST_ROWS}


OF_SYNC: Mapping[str, Callable[[Registry], Json]] = {
    "watermelon pull": of_watermelon_pull,
    "watermelon push": of_watermelon_push,
    "watermelon problems": of_watermelon_problems,
}
"""What is about all record types."""
OF_ONE: Mapping[str, Callable[[RecordType], Json]] = {
    "rxdb pull": of_rxdb_pull,
    "rxdb push": of_rxdb_push,
    "rxdb conflicts": of_rxdb_conflicts,
}
"""What is about one."""
