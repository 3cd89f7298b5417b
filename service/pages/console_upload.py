"""Files that are uploaded in the console: as a record of their own, or for a reference of another one's form."""

from hashlib import sha256
from typing import Any

from flask import current_app, request, url_for
from werkzeug.datastructures import FileStorage

from service.context import current_registry
from service.core.errors import Cause, NotFound, Problem, QuotaExceeded, ValidationFailed, pointer
from service.documents import File
from service.files.stores import store_of
from service.files.uploads import Uploads
from service.http.openapi import operation
from service.http.web import Answer
from service.mongo.raw import Raw
from service.pages.account import ABOUT
from service.pages.console_records import owner_named
from service.pages.console_sign_in import BY_FORM
from service.pages.console_visit import Visitor, for_admins, go
from service.records.acting import identity_of

UPLOAD_PATH = "/admin/upload"
FILE_INPUT = "file "
"""What the name of an input for a file begins with, in the form of a record; the name of its reference follows."""


def uploaded(visitor: Visitor, owner: str, sent: FileStorage | None) -> Raw:
    """Store a file of the account that a name, an address or an id means, as that account would; return its record.

    The log is written first: where its bytes are stored elsewhere, no transaction holds both. Raises `NotFound`,
    `QuotaExceeded`, and `ValidationFailed` for what has no name, or is no file.
    """
    registry, config = current_registry(), current_app.config
    if sent is None or not sent.filename:
        raise ValidationFailed([Cause("missing", "a file", pointer=pointer("file"))])
    who = identity_of(owner_named(owner))
    content, bytes_sent = registry.of(File).schema.load({"name": sent.filename}), sent.read()
    hash = sha256(bytes_sent).hexdigest()
    told = {"name": sent.filename, "size": len(bytes_sent), "sha256": hash}
    visitor.log.note("uploads", "files", owner=who.account, after=told)
    uploads = Uploads(registry, store_of(config), config["FILES_ACCOUNT_BYTES"])
    return uploads.finish(who, None, bytes_sent, {**content, "sha256": hash})


@operation("Show the form that uploads a file", **ABOUT)
@for_admins
def upload_page(visitor: Visitor) -> Answer:
    """Ask for the owner, and the file."""
    return shown_upload(visitor, visitor.who.account)


def shown_upload(visitor: Visitor, owner: str, problem: Problem | None = None) -> Answer:
    """Return the page. Raises `NotFound` where no files are served."""
    if File not in current_registry().by_document:
        raise NotFound("there are no files here")
    values: dict[str, Any] = {"owner": owner, "problem": problem, "most": current_app.config["MAX_CONTENT_LENGTH"]}
    return visitor.shown("console/upload.html", 200 if problem is None else problem.status, **values)


@operation("Upload a file", **BY_FORM, **ABOUT)
@for_admins
def upload_file(visitor: Visitor) -> Answer:
    """Store the file, and lead to its page."""
    owner = request.form.get("owner", "")
    try:
        record = uploaded(visitor, owner, request.files.get("file"))
    except (ValidationFailed, QuotaExceeded, NotFound) as problem:
        return shown_upload(visitor, owner, problem)
    return go(url_for("record_page", name="files", id=record["_id"]))


UPLOAD_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", UPLOAD_PATH, upload_page),
    ("POST", UPLOAD_PATH, upload_file),
]
