"""`flask files check`: whether each file has its bytes, and each byte its file."""

import click
from flask import current_app
from flask.cli import AppGroup

from service.cli.terminal import plainly
from service.files.check import faults
from service.files.stores import store_of

files_group = AppGroup("files", help="Compare files and their bytes.")


@files_group.command("check")
@click.option("--content", is_flag=True, help="read all bytes, and compare their hashes too")
def check_files(content: bool) -> None:
    """Say what does not fit together; ends with 1 where there is something. The service may go on."""
    number = 0
    with plainly():
        for fault in faults(store_of(current_app.config), content):
            click.echo(f"{fault.kind} {fault.id}: {fault.detail}")
            number += 1
    if number:
        raise click.ClickException(f"{number} of these do not fit together")
    click.echo("every file has its bytes, and every byte its file")
