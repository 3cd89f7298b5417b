"""`flask jobs`: what is to be done, is at work, or failed; to have it done, repeated, cancelled or dropped."""

import json
from collections.abc import Sequence
from typing import Any

import click
from flask.cli import AppGroup

from service import functions
from service.cli.outbox import ids_argument, meant, why
from service.cli.terminal import harmless, plainly
from service.core.clock import now
from service.mongo.raw import Raw
from service.outbox import items, jobs
from service.outbox.jobs import JOB

jobs_group = AppGroup("jobs", help="List, run, repeat, cancel and drop jobs.")
STATES_OF: dict[str | None, tuple[str, ...]] = {
    None: ("waiting", "failed"),
    "waiting": ("waiting",),
    "failed": ("failed",),
    "done": ("sent",),
}
"""The states in the outbox of what is listed."""
STATE_NAMES = [name for name in STATES_OF if name is not None]


@jobs_group.command("list")
@click.option("--state", type=click.Choice(STATE_NAMES), help="those alone; else those that are not done")
@click.option("--limit", type=click.IntRange(1), default=100, help="most that are shown, the newest first (100)")
def list_jobs(state: str | None, limit: int) -> None:
    """List the jobs that wait, are at work, or failed; their arguments are not shown."""
    with plainly():
        for item in items.list_of(STATES_OF[state], JOB, limit):
            click.echo(line_of(item))


def line_of(item: Raw) -> str:
    """Return what is told of a job."""
    content = item["content"]
    name = content["name"] + (f" {harmless(content['key'])}" if "key" in content else "")
    return f"{item['_id']}  {name}  {state_told(item)}, {item['tries']} tries{how_far(item)}{why(item)}"


def state_told(item: Raw) -> str:
    """Return in which state a job is, and until or since when."""
    if item["state"] != "waiting":
        return {"sent": "done", "failed": "failed"}[item["state"]]
    if "worker" in item:
        return f"at work at {item['worker']}" + (", cancelled" if "cancelled" in item else "")
    seconds = int((item["due_at"] - now()).total_seconds())
    return f"due in {seconds} s" if seconds > 0 else "due"


def how_far(item: Raw) -> str:
    """Return what a job has said of its progress."""
    progress = item.get("progress")
    return "" if progress is None else f", {progress['part']:.0%} {harmless(progress['note'])}".rstrip()


@jobs_group.command("run")
@click.argument("name")
@click.option("--arguments", default="{}", help="what the function is handed, as a JSON object")
@click.option("--key", help="of those with one key that wait there is one")
def run_job(name: str, arguments: str, key: str | None) -> None:
    """Have a job done by a worker, now."""
    known = jobs.jobs_in(functions.modules())
    if name not in known:
        raise click.UsageError(f"there is no job {name!r}; there are: {', '.join(sorted(known)) or 'none'}")
    with plainly():
        try:
            click.echo(jobs.enqueue(known[name], read_object(arguments), key=key))
        except ValueError as error:
            raise click.UsageError(str(error)) from None


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object of a text. Raises `ValueError`."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("the arguments have to be a JSON object")
    return found


def chosen_jobs(ids: Sequence[str], failed: bool) -> Raw:
    """Return the filter of the jobs that are meant."""
    return {"kind": JOB, **meant(ids, failed)}


@jobs_group.command("repeat")
@ids_argument
@click.option("--failed", is_flag=True, help="all that failed")
def repeat_jobs(ids: Sequence[str], failed: bool) -> None:
    """Have jobs that failed tried again, as often as new ones."""
    with plainly():
        click.echo(f"{items.repeat_failed(chosen_jobs(ids, failed))} are tried again")


@jobs_group.command("cancel")
@ids_argument
def cancel_jobs(ids: Sequence[str]) -> None:
    """Have jobs that wait not done, and those at work end; they are kept as failed."""
    with plainly():
        waiting, at_work = items.cancel(chosen_jobs(ids, False))
        click.echo(f"{waiting} cancelled, {at_work} at work are told to end")


@jobs_group.command("drop")
@ids_argument
@click.option("--failed", is_flag=True, help="all that failed")
@click.option("--yes", is_flag=True, help="do not ask")
def drop_jobs(ids: Sequence[str], failed: bool, yes: bool) -> None:
    """Remove jobs that wait or failed; one at work ends."""
    chosen = chosen_jobs(ids, failed)
    with plainly():
        if yes or click.confirm("Drop them?"):
            click.echo(f"{items.remove_items(chosen)} dropped")
