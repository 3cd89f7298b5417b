"""What is sent of a file: its bytes as they are, without what a camera wrote, or as a smaller image."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Any

from service.core.errors import BadImage, BadParameter, Cause, NotFound
from service.files import images_format, images_kept
from service.files.blobs import FILE_NOT_THERE, Blobs, BytesGone
from service.files.films import FILMS, shared_film
from service.files.images import Decoders
from service.files.images_format import FORMATS
from service.files.images_parts import SharedBytes
from service.files.images_sizes import Size, media_type_for, sizes_by_name
from service.files.reading import pieces
from service.mongo import deadline
from service.mongo.raw import Raw
from service.streams.threads import Threads

SUFFIXES = {"image/webp": ".webp", "image/jpeg": ".jpg", "image/png": ".png"}
WITHOUT_PLACE = frozenset({"image/bmp", "image/x-icon", "image/svg+xml", "image/vnd.microsoft.icon"})
"""Images whose formats have no place for what a camera writes, so that others get them as they are."""
SHARED_BY = 1
"""What takes out of images and films what others do not get: the next number, and they have other entity tags."""
MOST_KNOWN, MOST_PIECES = 512, 100_000
"""Images and films of which it is remembered what others get, and the most pieces of all of them."""
MOST_REFUSED, REFUSED_FOR = 10_000, 600.0
"""Images and films of which it is remembered that they were refused, and for how many seconds."""


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that are sent: `read` gives those from one place on, at least one and none from another on."""

    tag: str
    size: int
    media_type: str
    name: str
    read: Callable[[int, int], bytes]
    headers: tuple[tuple[str, str], ...] = ()


class Contents:
    """Finds what is sent of the files that somebody may read."""

    def __init__(self, settings: Any, threads: Threads, blobs: Blobs) -> None:
        """Take the settings `FILES_…`, on which threads MongoDB is asked, and where bytes are."""
        self.threads, self.blobs = threads, blobs
        self.sizes = sizes_by_name(settings["FILES_SIZES"])
        self.decoders = Decoders(settings)
        self.patience = float(settings["MONGODB_TIMEOUT"])
        self.making: dict[str, asyncio.Task[Content]] = {}
        self.known: dict[str, SharedBytes] = {}
        self.refused: dict[str, tuple[float, str]] = {}

    def close(self) -> None:
        """End what decodes images."""
        self.decoders.close()

    async def original(self, record: Raw, is_owner: bool) -> Content:
        """Return the bytes of a file; of an image, others than its owner get no place, device, time or comment.

        Of a film they get no place and no device. Raises `BadImage` where nobody can tell what such a file says.
        """
        media_type = str(record["media_type"])
        hides = media_type in FILMS or (media_type.startswith("image/") and media_type not in WITHOUT_PLACE)
        if is_owner or not hides:
            read = partial(self.blobs.read, record["blob"])
            return Content(f'"{record["sha256"]}"', int(record["size"]), media_type, record["name"], read)
        self.remind(record["blob"])
        shared = self.known.get(record["blob"])
        if shared is None:
            shared = await self.threads.do(partial(self.shared, record))
        tag = f'"{record["sha256"][:40]}-shared-{SHARED_BY}"'
        return Content(tag, shared.size, media_type, record["name"], shared.read)

    def shared(self, record: Raw) -> SharedBytes:
        """Return what others get of an image or a film. Raises `BadImage`, and `NotFound` where it has just gone."""
        read, media_type = partial(self.blobs.read, record["blob"]), record["media_type"]
        try:
            found = (
                shared_film(read, int(record["size"]))
                if media_type in FILMS
                else images_format.shared_form(media_type, read, int(record["size"]))
            )
        except BytesGone:
            raise NotFound(FILE_NOT_THERE) from None
        if found is None:
            detail = "what a camera wrote cannot be taken out of this file: its owner alone gets it as it is"
            remember_some(self.refused, record["blob"], (time.monotonic(), detail), MOST_REFUSED)
            raise BadImage(detail)
        remember_some(self.known, record["blob"], found, MOST_KNOWN)
        while sum(known.weight for known in list(self.known.values())) > MOST_PIECES:
            forget_first(self.known)
        return found

    # --- Smaller images ----------------------------------------------------------------------------------------------

    async def smaller(self, record: Raw, named: str, accept: str | None) -> Content:
        """Return the image of a size that the settings name, in the format that an `Accept` likes best.

        It is made once; who asks meanwhile waits for it. Raises `BadParameter`, `BadImage`, `Overloaded`, `NotFound`.
        """
        if named not in self.sizes:
            detail = f"one of {', '.join(self.sizes)}"
            raise BadParameter(f"`size`: {detail}", [Cause("not_allowed", detail, parameter="size")])
        if record["media_type"] not in FORMATS:
            raise BadImage(f"a file of the type {record['media_type']} is no image that can be made smaller")
        size, media_type = self.sizes[named], media_type_for(accept)
        rendition = images_kept.rendition_of(size, media_type)
        id = images_kept.blob_id(record, rendition)
        length = await self.threads.do(partial(images_kept.kept_length, record, rendition))
        if length is not None:
            return content_of(record, rendition, media_type, length, partial(self.blobs.read, id))
        self.remind(id)
        if id not in self.making:
            task = asyncio.create_task(self.made(record, size, media_type, rendition))
            self.making[id] = task
            task.add_done_callback(partial(self.forget, id))
        # Who goes does not take it from the others.
        return await asyncio.shield(self.making[id])

    def forget(self, id: str, task: asyncio.Task[Content]) -> None:
        """Forget an image that was made, but remember that it cannot be."""
        del self.making[id]
        error = None if task.cancelled() else task.exception()
        if isinstance(error, BadImage):
            remember_some(self.refused, id, (time.monotonic(), str(error)), MOST_REFUSED)

    def remind(self, id: str) -> None:
        """Raise `BadImage` again for an image that was refused a short while ago."""
        moment, detail = self.refused.get(id, (0.0, ""))
        if detail and time.monotonic() - moment < REFUSED_FOR:
            raise BadImage(detail)

    async def made(self, record: Raw, size: Size, media_type: str, rendition: str) -> Content:
        """Make a smaller image, and keep it."""
        try:
            data = await self.decoders.rendered(record["owner"], self.whole(record), size, media_type)
        except BytesGone:
            raise NotFound(FILE_NOT_THERE) from None
        await self.threads.do(partial(images_kept.keep, self.blobs, record, rendition, data))
        return content_of(record, rendition, media_type, len(data), lambda first, stop: data[first:stop])

    def whole(self, record: Raw) -> Iterator[bytes]:
        """Yield the bytes of a file, each piece in a time of its own. Raises `BytesGone`."""
        read = partial(deadline.anew, self.patience, self.blobs.read, record["blob"])
        return pieces(read, 0, int(record["size"]))


def content_of(record: Raw, rendition: str, media_type: str, length: int, read: Callable[[int, int], bytes]) -> Content:
    """Return what is sent of a smaller image."""
    name = PurePath(record["name"]).stem + SUFFIXES[media_type]
    return Content(f'"{record["sha256"][:40]}-{rendition}"', length, media_type, name, read, (("Vary", "Accept"),))


def remember_some(known: dict[str, Any], key: str, value: Any, most: int) -> None:
    """Remember something, and of more than so many forget the first."""
    known[key] = value
    if len(known) > most:
        forget_first(known)


def forget_first(known: dict[str, Any]) -> None:
    """Forget what was remembered first; several threads may do so at once."""
    known.pop(next(iter(known), ""), None)
