"""`flask import`: an existing collection becomes records."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
from bson import json_util
from flask import current_app
from flask.cli import with_appcontext

from service.cli.terminal import Meter, harmless, plainly, refuse_memory
from service.context import current_registry
from service.core.spelling import nearest
from service.documents import Account
from service.documents.account import ALIVE
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.upkeep.importing import DOCUMENTS_AT_ONCE, Counts, Import
from service.upkeep.source import ImportRefused, opened
from service.upkeep.takeover import Candidate, Fate, OwnerKind, Plan

SOME_REFUSED = 3
"""The exit code where documents were refused; 1 is that of an error, 2 that of a wrong option."""
MOST_REASONS = 20
"""Most reasons that are told at the end; the report has all."""
MOST_REASON_KINDS = 1000
"""Most reasons that are counted one by one."""


@click.command("import")
@click.argument("name", metavar="TYPE")
@click.option("--from", "collection", required=True, help="the collection to read; it is never written")
@click.option("--database", help="its database (that of the service, or of --uri)")
@click.option("--uri", envvar="IMPORT_URI", help="its server (that of the service); better in IMPORT_URI than here")
@click.option("--owner", help="the field that says whose a document is; may be a dotted path")
@click.option("--owner-is", type=click.Choice(["id", "username", "email"]), default="id", help="what is in it (id)")
@click.option("--owned-by", metavar="USERNAME", help="whose all documents are, where no field says so")
@click.option(
    "--created", multiple=True, help="field of created_at, _id for the moment of an ObjectId; the first counts"
)
@click.option("--updated", multiple=True, help="field of updated_at; of several the first that is there")
@click.option("--rename", "renames", multiple=True, metavar="OLD=NEW", help="a field of another name here")
@click.option("--ignore", multiple=True, metavar="FIELD", help="a field that is left out; may be a dotted path")
@click.option("--dry-run", is_flag=True, help="write nothing, and say what would be")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="a line of JSON for each that is refused"
)
@click.option(
    "--batch", type=click.IntRange(1, 5000), default=DOCUMENTS_AT_ONCE, help=f"documents at once ({DOCUMENTS_AT_ONCE})"
)
@click.option("--rest", type=click.FloatRange(0), default=0.0, help="rest after a batch, as a multiple of its time (0)")
@click.option("--patience", type=click.FloatRange(0), default=60.0, help="seconds without MongoDB before it ends (60)")
@with_appcontext
def import_collection(
    name: str,
    collection: str,
    database: str | None,
    uri: str | None,
    dry_run: bool,
    report: Path | None,
    batch: int,
    rest: float,
    patience: float,
    **said: Any,
) -> None:
    """Make records of TYPE from the documents of a collection, beside a running service.

    Run again it goes on: what is there is passed over, and never written over.
    """
    registry = current_registry()
    with plainly(". Run it again: what is there is passed over"):
        refuse_memory()
        plan = plan_of(registry, name, **said)
        with opened(uri, database, collection) as source, reported(report) as reasons:
            run = Import(registry, plan, source, dry_run, reasons.tell)
            run.check()
            meter, counts = Meter(name), Counts()
            for counts in run.run(batch, rest, patience):
                meter.show(progress_told(counts, dry_run), counts.finished)
    click.echo(f"{name} from {collection}: {progress_told(counts, dry_run)}")
    reasons.show(report)
    if counts.refused:
        raise SystemExit(SOME_REFUSED)


def plan_of(
    registry: Registry,
    name: str,
    owner: str | None,
    owner_is: OwnerKind,
    owned_by: str | None,
    created: Sequence[str],
    updated: Sequence[str],
    renames: Sequence[str],
    ignore: Sequence[str],
) -> Plan:
    """Return what the options say; raises `ImportRefused` for what cannot be."""
    if (owner is None) == (owned_by is None):
        raise ImportRefused("say whose the records are: by --owner FIELD or by --owned-by USERNAME")
    if owned_by is not None and owner_is != "id":
        raise ImportRefused("--owner-is says what is in the field of --owner; --owned-by takes a username")
    return Plan(
        type_named(registry, name),
        owner or "",
        owner_is,
        "" if owned_by is None else account_named(owned_by),
        created,
        updated,
        dict(map(renamed, renames)),
        ignore,
        current_app.config["MAX_CONTENT_LENGTH"],
    )


def type_named(registry: Registry, name: str) -> RecordType:
    """Return a record type; raises `ImportRefused` where there is none of that name."""
    if name not in registry:
        hint = nearest(name, registry) or f"; there are {', '.join(registry)}"
        raise ImportRefused(f"there is no record type {name!r}{hint}")
    if registry[name].is_file:
        raise ImportRefused("files are made by their bytes: upload them")
    return registry[name]


def account_named(username: str) -> str:
    """Return the id of an account; raises `ImportRefused` where there is none of that name."""
    found = Account._get_collection().find_one({"username_key": username.lower(), **ALIVE}, {"_id": 1})
    if found is None:
        raise ImportRefused(f"there is no account {username!r}")
    return str(found["_id"])


def renamed(text: str) -> tuple[str, str]:
    """Return the two names in `old=new`; raises `ImportRefused` where these are not two."""
    old, mark, new = text.partition("=")
    if not old or not new or not mark or "." in old:
        raise ImportRefused(f"--rename {text!r} is not OLD=NEW of whole fields")
    return old, new


def progress_told(counts: Counts, dry_run: bool) -> str:
    """Return how far an import has come, for a person."""
    imported = "would be imported" if dry_run else "imported"
    parts = [f"{counts.read} read", f"{counts.imported} {imported}", f"{counts.there} there already"]
    rest = {"there but different": counts.differs, "deleted here": counts.deleted, "refused": counts.refused}
    return ", ".join([*parts, *(f"{number} {name}" for name, number in rest.items() if number)])


class Reasons:
    """Why documents are not imported: each in the report, and how many there are of each kind; never their values."""

    def __init__(self, file: TextIO | None) -> None:
        self.file = file
        self.kinds: dict[tuple[str, str], list[Any]] = {}

    def tell(self, candidate: Candidate, outcome: Fate) -> None:
        """Hear of one."""
        id = json_util.dumps(candidate.source_id, json_options=json_util.RELAXED_JSON_OPTIONS)
        for cause in candidate.causes:
            place = harmless(re.sub(r"/\d+(?=/|$)", "/*", cause.pointer or "") or "all of it")
            kind = place, f"{cause.code}: {cause.detail}"
            if kind in self.kinds or len(self.kinds) < MOST_REASON_KINDS:
                self.kinds.setdefault(kind, [0, harmless(id)])[0] += 1
        if self.file is not None:
            errors = json_util.dumps([cause.as_dict() for cause in candidate.causes])
            self.file.write(f'{{"_id": {id}, "outcome": "{outcome}", "errors": {errors}}}\n')

    def show(self, report: Path | None) -> None:
        """Print the most frequent kinds, each with an example."""
        most = sorted(self.kinds.items(), key=lambda kind: -kind[1][0])[:MOST_REASONS]
        for (place, reason), (number, id) in most:
            click.echo(f"{number:>8}  {place}  {reason} (as in {id})")
        if self.kinds and report is None:
            click.echo("--report FILE names each of them")


@contextmanager
def reported(path: Path | None) -> Iterator[Reasons]:
    """Give what hears of all that is not imported, and writes it into a file where one is named."""
    if path is None:
        yield Reasons(None)
        return
    with path.open("w", encoding="utf-8") as file:
        yield Reasons(file)
