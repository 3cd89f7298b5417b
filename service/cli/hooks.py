"""`flask hooks`: the records of which a hook made nothing, and to have it told again or to drop them."""

from collections.abc import Sequence

import click
from flask.cli import AppGroup

from service.changes import set_aside
from service.cli.terminal import plainly
from service.mongo.raw import Filter

hooks_group = AppGroup("hooks", help="List, repeat and drop the changes that an after_change could not take.")
records_argument = click.argument("records", metavar="[TYPE/ID]...", nargs=-1)
all_option = click.option("--all", "all_of_them", is_flag=True, help="all of them")


@hooks_group.command("list")
@click.option("--limit", type=click.IntRange(1), default=100, help="most that are shown, the newest first (100)")
def list_set_aside(limit: int) -> None:
    """List what is tried again, and what is set aside."""
    with plainly():
        for row in set_aside.newest_rows(limit):
            state = row["state"].replace("_", " ")
            click.echo(f"{row['_id']}  {state}, {row['tries']} tries since {row['since']:%F %T}  {row['reason']}")


@hooks_group.command("repeat")
@records_argument
@all_option
def repeat_set_aside(records: Sequence[str], all_of_them: bool) -> None:
    """Have the hook told once more of what is set aside, within ten seconds."""
    with plainly():
        click.echo(f"{set_aside.repeat_rows(named_records(records, all_of_them))} are told again")


@hooks_group.command("drop")
@records_argument
@all_option
@click.option("--yes", is_flag=True, help="do not ask")
def drop_set_aside(records: Sequence[str], all_of_them: bool, yes: bool) -> None:
    """Forget what is set aside: the hook is not told until the record changes again."""
    chosen = named_records(records, all_of_them)
    with plainly():
        if yes or click.confirm("Drop them?"):
            click.echo(f"{set_aside.drop_rows(chosen)} dropped")


def named_records(records: Sequence[str], all_of_them: bool) -> Filter:
    """Return the filter of what is meant."""
    if bool(records) == all_of_them:
        raise click.UsageError("name the records, as `tasks/milk`, or say --all")
    return {} if all_of_them else {"_id": {"$in": list(records)}}
