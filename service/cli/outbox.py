"""`flask outbox`: what waits to be sent, what failed, and to have it tried again or dropped."""

from collections.abc import Sequence
from typing import Any

import click
from flask.cli import AppGroup

from service.cli.terminal import harmless, plainly
from service.core.clock import now
from service.documents.outbox_item import STATES
from service.mongo.raw import Raw
from service.outbox import items

UNTOLD = ("arguments", "accounts")
"""What of an item is for nobody's eyes: what a job is handed, and to whom a notification for many goes."""
outbox_group = AppGroup("outbox", help="List, repeat and drop what has to be sent.")
ids_argument = click.argument("ids", metavar="[ID]...", nargs=-1)


@outbox_group.command("list")
@click.option("--state", type=click.Choice(STATES), help="those in this state alone; else those that are not sent")
@click.option("--kind", help="those of this kind alone, such as mail")
@click.option("--limit", type=click.IntRange(1), default=100, help="most that are shown, the newest first (100)")
def list_items(state: str | None, kind: str | None, limit: int) -> None:
    """List what waits and what failed; codes and links are never shown."""
    with plainly():
        for item in items.list_of([state] if state else ["waiting", "failed"], kind, limit):
            click.echo(line(item))


def line(item: Raw) -> str:
    """Return what is told of an item."""
    age = int((now() - item["created_at"]).total_seconds() // 60)
    about = " ".join(str(value) for name, value in item["content"].items() if name not in UNTOLD)
    told = f"{item['_id']}  {item['kind']} {item['state']:<7} {age} min, {item['tries']} tries"
    return f"{told}  {harmless(about)}{why(item)}"


def why(item: Raw) -> str:
    """Return why the last try failed, if it did."""
    return f"  ({harmless(item['reason'])})" if "reason" in item else ""


@outbox_group.command("repeat")
@ids_argument
@click.option("--failed", is_flag=True, help="all that failed")
def repeat_items(ids: Sequence[str], failed: bool) -> None:
    """Have what failed tried once more; what was of use for some minutes is not."""
    with plainly():
        click.echo(f"{items.repeat_failed(meant(ids, failed))} are tried again")


@outbox_group.command("drop")
@ids_argument
@click.option("--failed", is_flag=True, help="all that failed")
@click.option("--yes", is_flag=True, help="do not ask")
def drop_items(ids: Sequence[str], failed: bool, yes: bool) -> None:
    """Remove what waits or failed: it is not sent."""
    chosen = meant(ids, failed)
    with plainly():
        if yes or click.confirm("Drop them?"):
            click.echo(f"{items.remove_items(chosen)} dropped")


def meant(ids: Sequence[str], failed: bool) -> dict[str, Any]:
    """Return the filter of what is meant."""
    if bool(ids) == failed:
        raise click.UsageError("name the items, or say --failed")
    return {"state": "failed"} if failed else {"_id": {"$in": list(ids)}}
