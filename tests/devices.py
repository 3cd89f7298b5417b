"""Devices with the sync clients as their libraries ship them, in one process of Node: `tests/clients/devices.mjs`."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.test_generated_clients import OURS, TOOLS

Json = dict[str, Any]


class DeviceError(AssertionError):
    """What a device says when something goes wrong on it."""


class Devices:
    """The process; it starts and ends with a `with` block."""

    def __init__(self, folder: Path) -> None:
        if not (TOOLS / "installed").exists():
            pytest.fail("there are no sync clients: `make clients` installs them")
        shutil.copy(OURS / "devices.mjs", folder)
        (folder / "node_modules").symlink_to(TOOLS / "node_modules")
        with (folder / "said").open("wb") as said:
            self.process = subprocess.Popen(
                ["node", folder / "devices.mjs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
            )
        self.numbers = count()
        self.waiting: dict[int, Future[Any]] = {}
        self.lock = threading.Lock()
        threading.Thread(target=self.listen, daemon=True).start()

    def __enter__(self) -> Devices:
        return self

    def __exit__(self, *_error: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if not line.startswith('{"n":'):
                continue  # what a library prints
            told = json.loads(line)
            future = self.waiting.pop(told["n"])
            if "error" in told:
                future.set_exception(DeviceError(told["error"]))
            else:
                future.set_result(told["value"])
        for future in self.waiting.values():
            future.set_exception(DeviceError("the process has ended"))

    def begin(self, device: str, do: str, **args: Any) -> Future[Any]:
        """Have a device do something, and go on."""
        future: Future[Any] = Future()
        with self.lock:
            number = next(self.numbers)
            self.waiting[number] = future
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps({"n": number, "device": device, "do": do, **args}) + "\n")
            self.process.stdin.flush()
        return future

    def open(self, name: str, kind: str, **options: Any) -> RealDevice:
        self.begin(name, "open", kind=kind, name=name, **options).result(20)
        return RealDevice(self, name)


class RealDevice:
    """One device."""

    def __init__(self, devices: Devices, name: str) -> None:
        self.devices, self.name = devices, name

    def do(self, what: str, **args: Any) -> Any:
        return self.devices.begin(self.name, what, **args).result(60)

    def sync(self, **args: Any) -> Any:
        return self.do("sync", **args)

    def rows(self, table: str = "notes") -> dict[str, Json]:
        return {row["id"]: row for row in self.do("rows", table=table)}


STRING: Json = {"type": "string"}
NOTE_COLUMNS = [
    *({"name": name, "type": "string"} for name in ("title", "body", "tags", "checklist", "owner")),
    *({"name": name, "type": "string", "isOptional": True} for name in ("notebook", "place")),
    {"name": "due", "type": "number", "isOptional": True},
    *({"name": name, "type": "number"} for name in ("priority", "revision", "created_at", "updated_at")),
    {"name": "pinned", "type": "boolean"},
]
NOTEBOOK_COLUMNS = [
    {"name": "title", "type": "string"},
    {"name": "colour", "type": "string", "isOptional": True},
    *({"name": name, "type": "number"} for name in ("revision", "created_at", "updated_at")),
]
GROUP_COLUMNS = [
    {"name": "name", "type": "string"},
    *({"name": name, "type": "number"} for name in ("revision", "created_at", "updated_at")),
]
TABLES: Json = {"version": 1, "tables": {"notes": NOTE_COLUMNS, "notebooks": NOTEBOOK_COLUMNS, "groups": GROUP_COLUMNS}}
"""The schema of an app with WatermelonDB."""

ID: Json = {"type": "string", "maxLength": 64}
NULLABLE: Json = {"type": ["string", "null"]}
OF_SERVER: Json = {
    "owner": STRING,
    "readers": {"type": "array", "items": STRING},
    "writers": {"type": "array", "items": STRING},
    "created_at": STRING,
    "updated_at": STRING,
    "revision": {"type": "integer"},
}
COLLECTIONS: Json = {
    "notes": {
        "version": 0,
        "primaryKey": "id",
        "type": "object",
        "properties": {
            "id": ID,
            "title": STRING,
            "body": STRING,
            "tags": {"type": "array", "items": STRING},
            "pinned": {"type": "boolean"},
            "priority": {"type": "integer"},
            "due": NULLABLE,
            "place": {"type": ["object", "null"]},
            "checklist": {"type": "array", "items": {"type": "object"}},
            "notebook": NULLABLE,
            **OF_SERVER,
        },
        "required": ["id", "title"],
        "additionalProperties": False,
    },
    "notebooks": {
        "version": 0,
        "primaryKey": "id",
        "type": "object",
        "properties": {"id": ID, "title": STRING, "colour": NULLABLE, **OF_SERVER},
        "required": ["id", "title"],
        "additionalProperties": False,
    },
    "groups": {
        "version": 0,
        "primaryKey": "id",
        "type": "object",
        "properties": {"id": ID, "name": STRING, **OF_SERVER},
        "required": ["id", "name"],
        "additionalProperties": False,
    },
}
"""The schemas of an app with RxDB."""
