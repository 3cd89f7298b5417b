"""The console at `/admin`: its overview, its files, and the table of its routes."""

from importlib import resources
from typing import Any

from flask import render_template

from service.context import current_registry
from service.documents import Account
from service.http.openapi import operation
from service.http.web import Answer
from service.identity.admin_log import logged_actions
from service.identity.first_admin import FIRST_PATH
from service.pages.account import ABOUT, kept_file
from service.pages.console_accounts import ACCOUNT_ROUTES
from service.pages.console_choices import choices_part
from service.pages.console_deleted import DELETED_ROUTES
from service.pages.console_forms import change_record, delete_page, delete_record, edit_page, make_record, new_page
from service.pages.console_indexes import INDEX_ROUTES
from service.pages.console_outbox import OUTBOX_ROUTES
from service.pages.console_plots import day_of_plots
from service.pages.console_records import all_records, record_page, table_page
from service.pages.console_service import SERVICE_ROUTES
from service.pages.console_sign_in import first_page, make_first, sign_in, sign_in_page, sign_out
from service.pages.console_upload import UPLOAD_ROUTES
from service.pages.console_visit import SIGN_IN, Visitor, for_admins
from service.pages.console_webhooks import WEBHOOK_ROUTES

SHORT_LOG = 10


@operation("See what the service keeps", **ABOUT)
@for_admins
def overview_page(visitor: Visitor) -> Answer:
    """Show the record types with about how many records they have, plots of the last day, and what admins did last."""
    types = [(type, all_records(visitor, name).about_how_many()) for name, type in current_registry().items()]
    accounts = Account._get_collection().estimated_document_count()
    actions = logged_actions("", most=SHORT_LOG)
    return visitor.shown("console/overview.html", types=types, accounts=accounts, actions=actions, day=day_of_plots())


@operation("Get the stylesheet of the console", **{**ABOUT, "media_type": "text/css"})
def console_style() -> Answer:
    """Return the one stylesheet."""
    return kept_file(render_template("console/style.css"), "text/css")


@operation("Get the script of the console", **{**ABOUT, "media_type": "text/javascript"})
def console_script() -> Answer:
    """Return htmx as it is published: the pages work without it, and it runs no text as code."""
    return kept_file(vendored("htmx.min.js"), "text/javascript")


@operation("Get the map of the console", **{**ABOUT, "media_type": "image/svg+xml"})
def console_map() -> Answer:
    """Return the land of the earth, from 180° west to 180° east: a degree is as long everywhere."""
    return kept_file(vendored("land.svg"), "image/svg+xml")


def vendored(name: str) -> str:
    """Return a text that others have made, as it is published."""
    return resources.files("service.pages").joinpath("vendored", name).read_text(encoding="utf-8")


RECORD_PATH = "/admin/records/<name>/<id>"
CONSOLE_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/admin", overview_page),
    ("GET", "/admin/style.css", console_style),
    ("GET", "/admin/htmx.js", console_script),
    ("GET", "/admin/land.svg", console_map),
    ("GET", SIGN_IN, sign_in_page),
    ("POST", SIGN_IN, sign_in),
    ("POST", "/admin/sign-out", sign_out),
    ("GET", FIRST_PATH, first_page),
    ("POST", FIRST_PATH, make_first),
    ("GET", "/admin/records/<name>", table_page),
    ("GET", "/admin/new/<name>", new_page),
    ("POST", "/admin/new/<name>", make_record),
    ("GET", "/admin/choices/<name>", choices_part),
    ("GET", RECORD_PATH, record_page),
    ("GET", f"{RECORD_PATH}/edit", edit_page),
    ("POST", f"{RECORD_PATH}/edit", change_record),
    ("GET", f"{RECORD_PATH}/delete", delete_page),
    ("POST", f"{RECORD_PATH}/delete", delete_record),
    *UPLOAD_ROUTES,
    *DELETED_ROUTES,
    *ACCOUNT_ROUTES,
    *OUTBOX_ROUTES,
    *WEBHOOK_ROUTES,
    *INDEX_ROUTES,
    *SERVICE_ROUTES,
]
"""Method, path and view of each page."""
