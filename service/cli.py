"""Commands for the person who runs the service: `flask indexes …` and `flask accounts …`."""

from collections.abc import Callable, Sequence
from typing import Any

import click
from flask import Flask
from flask.cli import AppGroup

from service import deletion, indexes, schema
from service.documents import Account, Event
from service.documents.account import ALIVE
from service.documents.record import Raw, now
from service.errors import Problem, ValidationFailed
from service.resources.accounts import new_password, store
from service.security import end_sessions, security

indexes_group = AppGroup("indexes", help="Show, make and drop the indexes of the database.")
accounts_group = AppGroup("accounts", help="Create, list, lock and delete accounts, and give them roles.")
username_argument = click.argument("username")


def init_app(app: Flask) -> None:
    """Add the commands to `app`."""
    app.cli.add_command(indexes_group)
    app.cli.add_command(accounts_group)


# --- flask indexes ---------------------------------------------------------------------------------------------------


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


# --- flask accounts --------------------------------------------------------------------------------------------------


@accounts_group.command("create")
@username_argument
@click.password_option()
@click.option("--role", "roles", multiple=True, help="a role to give; may stand several times")
def create(username: str, password: str, roles: Sequence[str]) -> None:
    """Create an account."""
    content = told(schema.load, Account, {"username": username})
    checked = told(new_password, {"password": password}, "password", username)
    account = told(store, {**content, "roles": valid_roles(roles)}, security().hashing.hash(checked))
    Event.record(account["_id"], "sign_up")
    click.echo(account["_id"])


@accounts_group.command("list")
def list_accounts() -> None:
    """List all accounts."""
    for account in Account._get_collection().find(ALIVE, sort=[("username_key", 1)]):
        state = "locked" if "locked_at" in account else "active"
        click.echo(f"{account['_id']}  {account['username']:<40} {state:<7} {' '.join(account.get('roles', []))}")


@accounts_group.command("roles")
@username_argument
@click.argument("roles", nargs=-1)
def give_roles(username: str, roles: Sequence[str]) -> None:
    """Give an account these roles and no others; they hold within a second."""
    change(username, {"$set": {"roles": valid_roles(roles), "updated_at": now()}}, "roles_changed")


@accounts_group.command("lock")
@username_argument
def lock(username: str) -> None:
    """Lock an account: its sessions end, and nobody can log in."""
    account = change(username, {"$set": {"locked_at": now()}}, "locked")
    end_sessions(account["_id"])


@accounts_group.command("unlock")
@username_argument
def unlock(username: str) -> None:
    """Let an account log in again."""
    change(username, {"$unset": {"locked_at": ""}}, "unlocked")


@accounts_group.command("revoke")
@username_argument
def revoke(username: str) -> None:
    """End all sessions of an account."""
    account = found(username)
    click.echo(f"{end_sessions(account['_id'])} sessions ended")
    Event.record(account["_id"], "session_ended")


@accounts_group.command("delete")
@username_argument
@click.confirmation_option(prompt="Delete the account and all that it owns?")
def delete(username: str) -> None:
    """Delete an account with all that it owns."""
    account = found(username)
    end_sessions(account["_id"])
    deletion.delete_account(account["_id"])


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
    checked: list[str] = told(schema.checked, schema.value_of(Account.roles), list(roles))
    return checked


def found(username: str) -> Raw:
    """Return the account with this name."""
    account: Raw | None = Account._get_collection().find_one({"username_key": username.lower()})
    if account is None:
        raise click.ClickException(f"there is no account {username!r}")
    return account


def change(username: str, update: dict[str, Any], kind: str) -> Raw:
    """Change an account and record what happened to it."""
    account = found(username)
    Account._get_collection().update_one({"_id": account["_id"]}, update)
    Event.record(account["_id"], kind)
    return account
