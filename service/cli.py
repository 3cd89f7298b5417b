"""Commands for the person who runs the service: `flask indexes …`."""

import click
from flask import Flask
from flask.cli import AppGroup

from service import indexes

indexes_group = AppGroup("indexes", help="Show, make and drop the indexes of the database.")


def init_app(app: Flask) -> None:
    """Add the commands to `app`."""
    app.cli.add_command(indexes_group)


@indexes_group.command("show")
def show() -> None:
    """Say what would change."""
    tell(indexes.changes())


@indexes_group.command("make")
def make() -> None:
    """Make the missing indexes, beside running reads and writes."""
    tell(indexes.changes())
    click.echo(f"{len(indexes.make())} made")


@indexes_group.command("drop")
@click.option("--yes", is_flag=True, help="do not ask")
def drop(yes: bool) -> None:
    """Drop the indexes that no document declares."""
    superfluous = [change for change in indexes.changes() if change.kind == "superfluous"]
    tell(superfluous)
    if superfluous and (yes or click.confirm("Drop them?")):
        click.echo(f"{len(indexes.drop())} dropped")


def tell(changes: list[indexes.Change]) -> None:
    """Print what differs between the declared indexes and the database."""
    for change in changes:
        click.echo(str(change))
    if not changes:
        click.echo("the indexes are as declared")
