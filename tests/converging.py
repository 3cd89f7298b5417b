"""People with devices of every kind, on a network that loses what it can; when all is quiet, all have the same."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

import requests
from pymongo import MongoClient

from tests.client import PASSWORD
from tests.devices import COLLECTIONS, TABLES, DeviceError, Devices, RealDevice
from tests.faults import FAULTS, FaultyProxy
from tests.test_run import Running

Json = dict[str, Any]
KINDS = ("watermelon", "watermelon", "rxdb", "rxdb-server")
WORDS = ("milk", "bread", "tea", "rice", "salt", "kimchi")
ROLES = ("cooks", "guests")


class Member:
    """Somebody with an account, and the devices of theirs."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.session = requests.Session()
        self.session.trust_env = False
        account = {"username": name, "password": PASSWORD}
        self.id = self.send("POST", "/v1/accounts", account)["id"]
        self.session.headers["Authorization"] = f"Bearer {self.token()}"
        self.devices: list[tuple[str, RealDevice]] = []
        self.lives = True

    def token(self) -> str:
        """The access token of a new session."""
        return str(self.send("POST", "/auth", {"username": self.name, "password": PASSWORD})["access_token"])

    def send(self, method: str, path: str, body: Any = None) -> Json:
        """Ask the service itself, again where a process of it has just died; what it refuses is nothing."""
        for _ in range(300):
            try:
                answer = self.session.request(method, self.world.direct + path, json=body, timeout=60)
            except requests.ConnectionError:
                time.sleep(0.1)
                continue
            if answer.status_code not in (502, 503):
                break
            time.sleep(0.1)
        if answer.status_code >= 500:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        found: Json = answer.json() if answer.content and answer.status_code < 400 else {}
        return found

    def listed(self, type: str) -> dict[str, Json]:
        """All that lists show, by id."""
        found: dict[str, Json] = {}
        cursor = ""
        while True:
            page = self.send("GET", f"/v1/{type}?scope=mine,shared&limit=100{cursor}")
            found |= {record["id"]: record for record in page["items"]}
            if page["next"] is None:
                return found
            cursor = f"&cursor={page['next']}"

    def open(self, kind: str) -> None:
        """Get one more device."""
        name = f"{self.name}-{len(self.devices)}"
        given = {"url": self.world.proxy.url, "token": self.token()}
        about = {"schema": TABLES} if kind == "watermelon" else {"collections": COLLECTIONS, "batch": 5}
        self.devices.append((kind, self.world.devices.open(name, kind, **given, **about)))
        self.world.tokens[name] = given["token"]


Action = Callable[[Member, str, RealDevice], None]


class World:
    """One run."""

    def __init__(self, seed: int, service: Running, devices: Devices, proxy: FaultyProxy, uri: str) -> None:
        self.random, self.seed = Random(seed), seed
        self.devices, self.proxy, self.uri = devices, proxy, uri
        self.service, self.direct = service, f"http://127.0.0.1:{service.port}"
        self.made = 0
        self.done: Counter[str] = Counter()
        self.tokens: dict[str, str] = {}
        prefix = f"u{time.time_ns():x}"
        self.members = [Member(self, f"{prefix}-{number}") for number in range(3)]
        for member in self.members:
            for kind in self.random.sample(KINDS, 2):
                member.open(kind)

    @property
    def chances(self) -> dict[Action, float]:
        """How often each thing happens, beside the others."""
        often = {self.make: 20, self.change: 20, self.remove: 8, self.sync: 30, self.share: 10, self.edit: 8}
        groups = {self.found: 3, self.rename: 2, self.admit: 6, self.expel: 4, self.disband: 0.7}
        return {**often, **groups, self.enrol: 4, self.leave: 0.3, self.strike: 1}

    def any_member(self) -> Member:
        return self.random.choice([member for member in self.members if member.lives])

    def step(self) -> None:
        """Let one thing happen."""
        member = self.any_member()
        kind, device = self.random.choice(member.devices)
        action = self.random.choices([*self.chances], [*self.chances.values()])[0]
        self.done[action.__name__] += 1
        action(member, kind, device)

    def make(self, _member: Member, kind: str, device: RealDevice) -> None:
        """Make a notebook, or a note that may stand in one, and may be wrong."""
        self.made += 1
        id = f"r{self.seed}-{time.time_ns():x}-{self.made}"
        if self.random.random() < 0.3:
            device.do("create", table="notebooks", id=id, row={"title": self.random.choice(WORDS)})
            return
        title = "" if self.random.random() < 0.05 else self.random.choice(WORDS)
        row: Json = {"title": title, "priority": self.random.choice((0, 1, 9)) if kind != "watermelon" else 0}
        if kind == "watermelon":
            row |= {"tags": "[]", "checklist": "[]"}
        books = [*device.rows("notebooks")]
        if books and self.random.random() < 0.5:
            row["notebook"] = self.random.choice(books)
        device.do("create", table="notes", id=id, row=row)

    def change(self, _member: Member, _kind: str, device: RealDevice) -> None:
        """Change a note on a device."""
        rows = [*device.rows("notes")]
        if rows:
            field = self.random.choice(("title", "body"))
            text = "x" * 300 if self.random.random() < 0.03 else self.random.choice(WORDS)
            device.do("update", table="notes", id=self.random.choice(rows), row={field: text})

    def remove(self, _member: Member, _kind: str, device: RealDevice) -> None:
        """Delete a record on a device."""
        table = self.random.choice(("notes", "notes", "notebooks"))
        rows = [*device.rows(table)]
        if rows:
            device.do("remove", table=table, id=self.random.choice(rows))

    def sync(self, _member: Member, _kind: str, device: RealDevice) -> None:
        """Sync a device over a bad network; it may fail, and is tried again another time."""
        try:
            device.sync()
        except DeviceError as error:
            self.done["sync failed"] += 1
            if not any(reason in str(error) for reason in EXPECTED):
                raise

    def share(self, member: Member, _kind: str, _device: RealDevice) -> None:
        """Share a note, or share it no longer."""
        own = [record for record in member.listed("notes").values() if record["owner"] == member.id]
        if own:
            others = [other.id for other in self.members if other is not member] + [f"role:{role}" for role in ROLES]
            others += [f"group:{group}" for group in member.listed("groups")]
            given = self.random.sample(others, self.random.randint(0, 2))
            field = self.random.choice(("readers", "writers"))
            member.send("PATCH", f"/v1/notes/{self.random.choice(own)['id']}", {field: given})

    def enrol(self, member: Member, _kind: str, _device: RealDevice) -> None:
        """Give an account roles, and take others."""
        roles = self.random.sample(ROLES, self.random.randint(0, 2))
        with MongoClient(self.uri) as client:
            client.get_default_database()["accounts"].update_one({"_id": member.id}, {"$set": {"roles": roles}})

    def found(self, member: Member, _kind: str, device: RealDevice) -> None:
        """Found a group, on a device or from elsewhere."""
        self.made += 1
        id, name = f"g{self.seed}-{time.time_ns():x}-{self.made}", self.random.choice(WORDS)
        if self.random.random() < 0.5:
            device.do("create", table="groups", id=id, row={"name": name})
        else:
            member.send("POST", "/v1/groups", {"id": id, "name": name})

    def rename(self, _member: Member, _kind: str, device: RealDevice) -> None:
        """Give a group another name on a device, which only its managers may."""
        if groups := [*device.rows("groups")]:
            row = {"name": self.random.choice(WORDS)}
            device.do("update", table="groups", id=self.random.choice(groups), row=row)

    def admit(self, member: Member, _kind: str, _device: RealDevice) -> None:
        """Make somebody a member of a group, or a manager."""
        if groups := [*member.listed("groups")]:
            put = {"account": self.any_member().id, "role": self.random.choice(("member", "manager"))}
            member.send("POST", f"/v1/groups/{self.random.choice(groups)}/members", put)

    def expel(self, member: Member, _kind: str, _device: RealDevice) -> None:
        """Remove somebody from a group, or leave it."""
        if groups := [*member.listed("groups")]:
            member.send("DELETE", f"/v1/groups/{self.random.choice(groups)}/members/{self.any_member().id}")

    def disband(self, member: Member, _kind: str, _device: RealDevice) -> None:
        """Delete a group."""
        if groups := [*member.listed("groups")]:
            member.send("DELETE", f"/v1/groups/{self.random.choice(groups)}")

    def edit(self, member: Member, _kind: str, _device: RealDevice) -> None:
        """Change or delete a record from elsewhere."""
        table = self.random.choice(("notes", "notebooks"))
        if records := [*member.listed(table)]:
            path = f"/v1/{table}/{self.random.choice(records)}"
            if self.random.random() < 0.3:
                member.send("DELETE", path)
            else:
                member.send("PATCH", path, {"title": self.random.choice(WORDS)})

    def leave(self, member: Member, _kind: str, _device: RealDevice) -> None:
        """Delete an account, if others stay."""
        if sum(other.lives for other in self.members) > 1:
            member.lives = False
            member.send("DELETE", "/v1/accounts/me")

    def strike(self, _member: Member, _kind: str, _device: RealDevice) -> None:
        """Kill a process of the service: one that answers, or the one that records."""
        for pid in self.random.choice((self.service.workers(), [self.service.pid("madang-worker")])):
            # Of what is just being started there is no id yet, and 0 would be the tests.
            if pid:
                os.kill(pid, signal.SIGKILL)

    def settle(self, rounds: int = 3) -> None:
        """Let all devices sync over a good network."""
        # Longer than the service believes what roles somebody had.
        time.sleep(1.0)
        living = [member for member in self.members if member.lives]
        # Of what died another has taken over when the order of changes is heard of again.
        living[0].send("GET", "/v1/changes?limit=1")
        for _ in range(rounds):
            for member in living:
                for _, device in member.devices:
                    device.sync()

    def check(self) -> None:
        """Hold what each device has against what lists show."""
        for member in self.members:
            if not member.lives:
                continue
            for table in ("notes", "notebooks", "groups"):
                listed = member.listed(table)
                for kind, device in member.devices:
                    has = device.rows(table)
                    due = {id: expected(kind, table, record) for id, record in listed.items()}
                    seen = {id: {name: row[name] for name in due.get(id, row)} for id, row in has.items()}
                    if seen != due:
                        raise AssertionError(difference(f"{kind} {device.name} {table}", seen, due) + self.said(device))
                    if kind == "watermelon":
                        assert not device.do("unsynced"), f"{device.name} has something left to send"

    def said(self, device: RealDevice) -> str:
        """What a device has sent and heard."""
        own = f"Bearer {self.tokens[device.name]}"
        told = [said for said in self.proxy.exchanges if said.token == own]
        return "\n".join(
            ["", *(f"{said.fault or 'fine'}: {said.request} -> {said.status} {said.answer}" for said in told)]
        )

    def close(self) -> None:
        for member in self.members:
            member.session.close()
            for _, device in member.devices:
                device.do("close")


BROKEN = "fetch failed", "terminated", "other side closed", "Unexpected end", "JSON"
EXPECTED = *BROKEN, "push 409", "502", "503", "401"
"""What a device may say on such a network, and where others change the same."""


def expected(kind: str, table: str, record: Json) -> Json:
    """A record as a device has it."""
    if kind != "watermelon":
        return record
    columns = {column["name"]: column for column in TABLES["tables"][table]}
    return {"id": record["id"], **{name: as_column(record[name], column) for name, column in columns.items()}}


def as_column(value: Any, column: Json) -> Any:
    """A value as a column of WatermelonDB has it."""
    if column["type"] == "number" and isinstance(value, str):
        moment = datetime.fromisoformat(value).replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    return value


def difference(who: str, seen: dict[str, Json], due: dict[str, Json]) -> str:
    """What a device has and should not have, and the other way round."""
    lines = [who]
    for id in sorted(seen.keys() | due.keys()):
        if seen.get(id) != due.get(id):
            lines.append(f"  {id}\n    has {seen.get(id)}\n    due {due.get(id)}")
    return "\n".join(lines)


class Mood:
    """How bad the network is."""

    def __init__(self, seed: int) -> None:
        self.random, self.share = Random(seed), 0.0

    def __call__(self, _method: str, path: str) -> str:
        if "/v1/sync/" not in path or self.random.random() >= self.share:
            return ""
        return self.random.choice(FAULTS)


def run(seed: int, service: Running, devices: Devices, uri: str, steps: int = 60) -> Counter[str]:
    """Let all of that happen once, and return how often each thing did.

    What happens follows from a seed. Raises `AssertionError` where a device has something else in the end.
    """
    mood = Mood(seed)
    with FaultyProxy(service.port, mood) as proxy:
        world = World(seed, service, devices, proxy, uri)
        try:
            mood.share = 0.25
            for _ in range(steps):
                world.step()
            mood.share = 0.0
            world.settle()
            world.check()
        finally:
            world.close()
        return world.done + proxy.happened
