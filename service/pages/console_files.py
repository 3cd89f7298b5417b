"""Previews of files in the console: by a link that reads as their owner, for minutes."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from flask import current_app

from service.context import current_registry
from service.documents import File
from service.files.images_sizes import sizes_by_name
from service.files.links import FileLinks
from service.pages.console_visit import Visitor
from service.records.administering import AllRecords
from service.security import security

FILES_NAME = str(File._get_collection_name())
PREVIEW_SECONDS = 300
PREVIEWED = ("image/jpeg", "image/png", "image/gif", "image/webp", "image/avif", "image/heic")


@dataclass(frozen=True, slots=True)
class Preview:
    """A file, where its bytes can be got, and where a small image of it; empty for what is no image."""

    id: str
    name: str
    address: str
    image: str


def preview(visitor: Visitor, id: str) -> Preview | None:
    """Return the preview of a file; None where there is none, or its types are not served here."""
    registry = current_registry()
    if File not in registry.by_document:
        return None
    file: Any = AllRecords(registry, registry.of(File), visitor.who).find(id)
    if file is None:
        return None
    is_image = file.get("media_type") in PREVIEWED
    return Preview(id, str(file.get("name", id)), link_to(file, None), link_to(file, smallest()) if is_image else "")


def link_to(file: Any, size: str | None) -> str:
    """Return a link to the bytes of a file, or of a smaller image; it dies with the rights of the owner."""
    links = FileLinks(security().keys.each("file link"))
    text = links.made(file["_id"], file["owner"], PREVIEW_SECONDS, size)
    return f"/v1/files/{quote(file['_id'])}/content?link={text}"


def smallest() -> str | None:
    """Return the name of the first size that images are made smaller to."""
    return next(iter(sizes_by_name(current_app.config["FILES_SIZES"])), None)
