"""Commands for who runs the service: indexes, accounts, migrations, outbox, jobs, hooks, webhooks, files, backup."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import AppGroup, with_appcontext

from service.cli.files import files_group
from service.cli.hooks import hooks_group
from service.cli.importing import import_collection
from service.cli.jobs import jobs_group
from service.cli.outbox import outbox_group
from service.cli.terminal import Meter, plainly, refuse_memory, reporter
from service.cli.webhooks import webhooks_group
from service.context import current_registry
from service.core.clock import now
from service.core.errors import Problem, ValidationFailed
from service.documents import Account, Event
from service.documents.account import ALIVE, address_key
from service.documents.record import ID
from service.files.stores import store_of
from service.identity import deletion
from service.identity.accounts import account_by_name, change_by_operator, store_account
from service.identity.passwords import new_password
from service.identity.schemas import ACCOUNT
from service.model.validation import validate
from service.mongo.raw import Raw
from service.policy import ADMIN
from service.security import security
from service.upkeep import backup, indexes, migrations, upgrade, wording

indexes_group = AppGroup("indexes", help="Show, make and drop the indexes of the database.")
accounts_group = AppGroup("accounts", help="Create, list, lock and delete accounts, and give them roles.")
migrate_group = AppGroup("migrate", help="Bring stored documents to the form of this version.")
ACCOUNT_ID = re.compile(ID)
username_argument = click.argument("username")


def init_app(app: Flask) -> None:
    """Add the commands to `app`."""
    app.cli.add_command(indexes_group)
    app.cli.add_command(accounts_group)
    app.cli.add_command(migrate_group)
    app.cli.add_command(outbox_group)
    app.cli.add_command(hooks_group)
    app.cli.add_command(jobs_group)
    app.cli.add_command(webhooks_group)
    app.cli.add_command(files_group)
    app.cli.add_command(make_backup)
    app.cli.add_command(restore_backup)
    app.cli.add_command(import_collection)


# --- flask indexes ---------------------------------------------------------------------------------------------------


@indexes_group.command("show")
def show_indexes() -> None:
    """Say what would change."""
    tell_changes(indexes.changes(current_registry()))


@indexes_group.command("make")
def make_indexes() -> None:
    """Make the missing indexes, beside running reads and writes."""
    with plainly(". Run it again: what was made is there"):
        tell_changes(indexes.changes(current_registry()))
        click.echo(f"{len(indexes.make(current_registry()))} made")


@indexes_group.command("drop")
@click.option("--yes", is_flag=True, help="do not ask")
def drop_indexes(yes: bool) -> None:
    """Drop the indexes that no document declares."""
    unused = [change for change in indexes.changes(current_registry()) if change.kind == "unused"]
    tell_changes(unused)
    if unused and (yes or click.confirm("Drop them?")):
        click.echo(f"{len(indexes.drop(current_registry()))} dropped")


def tell_changes(changes: list[indexes.IndexChange]) -> None:
    """Print what differs between the declared indexes and the database."""
    for change in changes:
        click.echo(str(change))
    if not changes:
        click.echo("the indexes are as declared")


# --- flask accounts --------------------------------------------------------------------------------------------------


@accounts_group.command("create")
@click.argument("username", default=lambda: click.prompt("Username"))
@click.password_option()
@click.option("--role", "roles", multiple=True, help="a role to give; may stand several times")
@click.option("--admin", is_flag=True, help="give the role of admins, who may enter the console at /admin")
@click.option("--id", help="the id that it had elsewhere, for what is imported")
def create_account(username: str, password: str, roles: Sequence[str], admin: bool, id: str | None) -> None:
    """Create an account."""
    roles = [*dict.fromkeys([*roles, *([ADMIN] if admin else [])])]
    content = told(ACCOUNT.load, {"username": username})
    checked = told(new_password, {"password": password}, "password", username)
    named = {} if id is None else {"_id": valid_id(id)}
    account = told(store_account, {**content, **named, "roles": valid_roles(roles)}, security().hashing.hash(checked))
    Event.record(account["_id"], "sign_up")
    click.echo(account["_id"])


@accounts_group.command("list")
def list_accounts() -> None:
    """List all accounts."""
    for account in Account._get_collection().find(ALIVE, sort=[("username_key", 1)]):
        state = "locked" if "locked_at" in account else "active"
        name = account.get("username") or account.get("email") or ""
        click.echo(f"{account['_id']}  {name:<40} {state:<7} {' '.join(account.get('roles', []))}")


@accounts_group.command("roles")
@username_argument
@click.argument("roles", nargs=-1)
def give_roles(username: str, roles: Sequence[str]) -> None:
    """Give an account these roles and no others; they hold within a second."""
    change_account(username, {"$set": {"roles": valid_roles(roles), "updated_at": now()}}, "roles_changed")


@accounts_group.command("lock")
@username_argument
def lock(username: str) -> None:
    """Lock an account: its sessions end, and nobody can log in."""
    account = change_account(username, {"$set": {"locked_at": now()}}, "locked")
    security().sessions.end(account["_id"])


@accounts_group.command("unlock")
@username_argument
def unlock(username: str) -> None:
    """Let an account log in again."""
    change_account(username, {"$unset": {"locked_at": ""}}, "unlocked")


@accounts_group.command("revoke")
@username_argument
def revoke(username: str) -> None:
    """End all sessions of an account."""
    account = found_account(username)
    click.echo(f"{security().sessions.end(account['_id'])} sessions ended")
    Event.record(account["_id"], "session_ended")


@accounts_group.command("bounced")
@click.argument("address")
@click.option("--undo", is_flag=True, help="mails arrive there again")
def bounced(address: str, undo: bool) -> None:
    """Say that mails to a verified ADDRESS come back: none is sent there but to confirm it anew."""
    try:
        key = address_key(address)
    except ValueError as error:
        raise click.ClickException(f"{address}: {error}") from None
    update = {"$unset": {"email_bounced": ""}} if undo else {"$set": {"email_bounced": key}}
    found = Account._get_collection().update_one({"email_key": key, **ALIVE}, Account.written(update))
    if not found.matched_count:
        raise click.ClickException(f"there is no account with the verified address {address}")


@accounts_group.command("second-factor-off")
@username_argument
def switch_second_factor_off(username: str) -> None:
    """Let somebody in who has lost the authenticator app and the recovery codes; be sure who asks for it."""
    told(security().second_factors.remove, found_account(username), None)


@accounts_group.command("delete")
@username_argument
@click.confirmation_option(prompt="Delete the account and all that it owns?")
def delete(username: str) -> None:
    """Delete an account with all that it owns."""
    account = found_account(username)
    security().sessions.end(account["_id"])
    deletion.delete_account(current_registry(), account["_id"])


def told(work: Callable[..., Any], *args: Any) -> Any:
    """Return what `work` does; say its problem as the command's error."""
    try:
        return work(*args)
    except ValidationFailed as problem:
        raise click.ClickException("; ".join(f"{cause.pointer}: {cause.detail}" for cause in problem.causes)) from None
    except Problem as problem:
        raise click.ClickException(problem.detail) from None


def valid_roles(roles: Sequence[str]) -> list[str]:
    """Return roles that an account can have."""
    checked: list[str] = told(validate, ACCOUNT.value(ACCOUNT.fields["roles"]), list(roles))
    return checked


def valid_id(id: str) -> str:
    """Return an id that an account can have, for it is a principal too."""
    if not ACCOUNT_ID.fullmatch(id) or id == "me":
        raise click.ClickException("--id: 1 to 64 of A-Z a-z 0-9 . _ -, neither dots alone nor `me`")
    return id


def found_account(username: str) -> Raw:
    """Return the account with this name."""
    account = account_by_name(username)
    if account is None:
        raise click.ClickException(f"there is no account {username!r}")
    return account


def change_account(username: str, update: dict[str, Any], kind: str) -> Raw:
    """Change an account and record what happened to it."""
    account = found_account(username)
    told(change_by_operator, account["_id"], update, kind)
    return account


# --- flask migrate, backup and restore -------------------------------------------------------------------------------


@migrate_group.command("list")
def list_migrations() -> None:
    """List all migrations and say which are open."""
    with plainly():
        for migration in migrations.every_step(current_registry().documents):
            name = migration.document._get_collection_name()
            state = "done" if upgrade.is_done(migration) else state_of(upgrade.run_of(migration.document))
            click.echo(f"{name:<12} {migration.to_version:>3}  {migration.description:<48} {state}")
        for type in wording.searched_types(current_registry()):
            state = "done" if wording.is_worded(type) else state_of(wording.walk_of(type))
            click.echo(f"{type.name:<12} {'':>3}  {wording.words_description(type):<48} {state}")


def state_of(walk: Raw | None) -> str:
    """Return the state of a migration that is open, by the last walk through the collection."""
    return "open" if walk is None or "finished_at" in walk else f"open, begun: {walk['looked_at']} looked at"


@migrate_group.command("run")
@click.option("--rest", type=click.FloatRange(0), default=1.0, help="rest after a batch, as a multiple of its time (1)")
@click.option("--patience", type=click.FloatRange(0), default=60.0, help="seconds without MongoDB before it ends (60)")
def run_migrations(rest: float, patience: float) -> None:
    """Bring all stored documents to this version, beside a running service."""
    with plainly(". Run it again: it goes on where it was"):
        refuse_memory()
        for document in migrations.versioned(current_registry().documents):
            meter = Meter(document._get_collection_name())
            for progress in upgrade.upgrade(current_registry(), document, rest, patience):
                meter.show(f"{progress.looked_at} looked at, {progress.changed} changed", progress.finished)
        for type in wording.searched_types(current_registry()):
            meter = Meter(f"{type.name}, {wording.words_description(type)}")
            for progress in wording.make_words(type, rest, patience):
                meter.show(f"{progress.looked_at} looked at, {progress.changed} changed", progress.finished)
        for note in indexes.unused_advice(current_registry()):
            click.echo(note)


@click.command("backup")
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@with_appcontext
def make_backup(file: Path) -> None:
    """Write all that is stored, as it is at one moment, into FILE; the service may go on."""
    with plainly():
        refuse_memory()
        counts = backup.backup(current_registry(), store_of(current_app.config), file, reporter())
        click.echo(f"{file}: {sum(counts.values())} documents, {file.stat().st_size / 1e6:.1f} MB")


@click.command("restore")
@click.argument("file", type=click.Path(readable=False, path_type=Path))
@with_appcontext
def restore_backup(file: Path) -> None:
    """Bring the backup in FILE into an empty database; no server may run on it."""
    with plainly():
        refuse_memory()
        counts = backup.restore(current_registry(), store_of(current_app.config), file, reporter())
        click.echo(f"{sum(counts.values())} documents restored; everybody has to log in again")
        for note in (*upgrade.advice(current_registry()), *wording.advice(current_registry())):
            click.echo(note)
