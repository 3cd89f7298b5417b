"""`flask webhooks`: servers of others that are told of changes, and what was sent to them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click
from flask.cli import AppGroup

from service.cli.terminal import harmless, plainly, refuse_memory
from service.core.errors import Problem, ValidationFailed
from service.documents.outbox_item import STATES
from service.mongo.raw import Raw
from service.resources.webhooks import MOST_OLD_SECRET_HOURS, OLD_SECRET_HOURS, current_webhooks
from service.webhooks import deliveries, keeping
from service.webhooks.deliveries import MOST_DELIVERIES
from service.webhooks.keeping import WebhookPlan
from service.webhooks.shown import dump_delivery, dump_webhook

webhooks_group = AppGroup("webhooks", help="List, create, change, test and delete webhooks, and repeat deliveries.")
id_argument = click.argument("id")
url_option = click.option("--url", help="what is called")
types_option = click.option("--type", "types", multiple=True, help="a record type; may stand several times; else all")
where_option = click.option("--where", help="conditions that a record has to fulfil, as a JSON object")


@contextmanager
def saying_why() -> Iterator[None]:
    """Say in one sentence why something cannot be done in the block."""
    refuse_memory()
    with plainly():
        try:
            yield
        except ValidationFailed as error:
            told = "; ".join(f"{(cause.pointer or '').lstrip('/')}: {cause.detail}" for cause in error.causes)
            raise click.ClickException(told) from None
        except Problem as error:
            raise click.ClickException(error.detail) from None


def read_where(text: str | None) -> dict[str, Any] | None:
    """Return the conditions that a text holds; raises `UsageError` for what is no JSON object."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"--where is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.UsageError('--where has to be a JSON object, such as {"pinned": true}')
    return found


@webhooks_group.command("list")
def list_webhooks() -> None:
    """List all webhooks."""
    with saying_why():
        for row in keeping.listed_webhooks():
            click.echo(webhook_line(row))


def webhook_line(row: Raw) -> str:
    """Return what is told of a webhook."""
    shown = dump_webhook(row)
    state = "on" if shown["active"] else f"off ({shown['off_reason'] or 'by hand'})"
    failing = f", no call taken since {shown['failing_since']}" if shown["failing_since"] else ""
    about = " ".join(shown["types"] or ["all types"]) + (f" where {row['where']}" if "where" in row else "")
    return f"{shown['id']}  {state}{failing}  {harmless(shown['url'])}  {harmless(about)}"


@webhooks_group.command("create")
@click.argument("url")
@types_option
@where_option
def create_webhook(url: str, types: Sequence[str], where: str | None) -> None:
    """Have URL called for each change; prints its id, and its secret this once."""
    plan = WebhookPlan(url, types or None, read_where(where))
    with saying_why():
        current_webhooks().check_url(url)
        tell_secret(current_webhooks().make(plan, None))


def tell_secret(row: Raw) -> None:
    """Print the id of a webhook and its newest secret."""
    click.echo(f"{row['_id']}\n{current_webhooks().secrets(row)[0]}")


@webhooks_group.command("show")
@id_argument
def show_webhook(id: str) -> None:
    """Show all of a webhook but its secrets, as JSON."""
    with saying_why():
        click.echo(json.dumps(dump_webhook(keeping.find_webhook(id)), indent=2, ensure_ascii=False))


@webhooks_group.command("change")
@id_argument
@url_option
@types_option
@where_option
@click.option("--all", "whole", is_flag=True, help="all types, without conditions")
@click.option("--on/--off", "active", default=None, help="whether it is called")
def change_webhook(
    id: str, url: str | None, types: Sequence[str], where: str | None, whole: bool, active: bool | None
) -> None:
    """Change what is named; what changes while it is off is not told to it."""
    asked: dict[str, Any] = {"types": None, "where": None} if whole else {}
    given = {"url": url, "types": types or None, "where": read_where(where), "active": active}
    asked |= {name: value for name, value in given.items() if value is not None}
    with saying_why():
        if url is not None:
            current_webhooks().check_url(url)
        click.echo(webhook_line(current_webhooks().change(id, asked)))


@webhooks_group.command("delete")
@id_argument
@click.option("--yes", is_flag=True, help="do not ask")
def delete_webhook(id: str, yes: bool) -> None:
    """Remove a webhook, with all that was, or was to be, sent to it."""
    with saying_why():
        if yes or click.confirm("Remove it?"):
            keeping.remove_webhook(id)


@webhooks_group.command("rotate")
@id_argument
@click.option(
    "--keep-hours",
    type=click.IntRange(0, MOST_OLD_SECRET_HOURS),
    default=OLD_SECRET_HOURS,
    help=f"how long the one that it has signs too ({OLD_SECRET_HOURS})",
)
def rotate_secret(id: str, keep_hours: int) -> None:
    """Give a webhook another secret, and print it."""
    with saying_why():
        tell_secret(current_webhooks().rotate(id, timedelta(hours=keep_hours)))


@webhooks_group.command("ping")
@id_argument
def ping_webhook(id: str) -> None:
    """Call a webhook to test it; `deliveries` tells what came of it."""
    with saying_why():
        click.echo(deliveries.ping(id)["_id"])


@webhooks_group.command("deliveries")
@id_argument
@click.option("--state", type=click.Choice(STATES), help="those in this state alone")
@click.option("--limit", type=click.IntRange(1, MOST_DELIVERIES), default=100, help="most that are shown (100)")
def show_deliveries(id: str, state: str | None, limit: int) -> None:
    """List what is, or was, sent to a webhook, the newest first."""
    with saying_why():
        for item in deliveries.list_deliveries(id, state, limit):
            shown = dump_delivery(item)
            about = f"{shown['type']}/{shown['record']}" if shown["type"] else "ping"
            why = f"  ({harmless(shown['reason'])})" if shown["reason"] else ""
            click.echo(f"{shown['id']}  {shown['state']:<7} {shown['tries']} tries  {about}{why}")


@webhooks_group.command("repeat")
@id_argument
@click.argument("delivery")
def repeat_delivery(id: str, delivery: str) -> None:
    """Have what a delivery was about told once more; prints the new one's id."""
    with saying_why():
        click.echo(deliveries.repeat(id, delivery)["_id"])
