"""Bodies with a file in them, as they come: `multipart/form-data` (RFC 7578), or the bare bytes."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from service.core.errors import BadRequest, Cause, TooLarge, UnsupportedMediaType, ValidationFailed
from service.files.names import base_name

MOST_FORM_PARTS = 250
"""Most parts of a form."""
MOST_TEXT = 64 * 1024
"""Most bytes of the texts of a form together, and of the headers of a part."""
MULTIPART = "multipart/form-data"
AT_A_TIME = 16 * 1024
"""Most bytes that the decoder is handed at a time: they count as text until it knows better."""
NO_FILE = "bytes that come as one part, called `file`, with a file name"


def largest_body(settings: Mapping[str, Any]) -> int:
    """Return the bytes of the largest body that a file is made of: the file, and what a form has beside it."""
    return int(settings["FILES_DIRECT_BYTES"]) + MOST_TEXT


def too_large_a_file(most: int) -> TooLarge:
    """Return what is said of a file of more bytes than one request takes."""
    return TooLarge(f"one request takes {most} bytes of a file at most; larger ones go to /v1/uploads")


class FormPiece(NamedTuple):
    """Some bytes of a body: of the part `name`; of the file where that is None, which is called `filename` then."""

    name: str | None
    data: bytes
    filename: str = ""


async def pieces_of(headers: Mapping[str, str], body: AsyncIterator[bytes]) -> AsyncIterator[FormPiece]:
    """Yield the pieces of the file in a body, and the other parts of it.

    Raises `BadRequest`, `TooLarge`, `UnsupportedMediaType` and `ValidationFailed`.
    """
    kind, options = body_kind(headers)
    if kind == MULTIPART:
        async for piece in form_pieces(options.get("boundary", ""), body):
            yield piece
        return
    if kind.startswith("multipart/") or kind == "application/x-www-form-urlencoded":
        raise UnsupportedMediaType(f"send the bytes as they are, or as {MULTIPART}")
    if kind == "application/json" and "content-disposition" not in headers:
        raise UnsupportedMediaType("a file is made by its bytes; JSON as one needs a `Content-Disposition` with a name")
    _, named = parse_options_header(headers.get("content-disposition"))
    filename = base_name(named.get("filename"))
    yield FormPiece(None, b"", filename)
    async for data in body:
        yield FormPiece(None, data, filename)


def body_kind(headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the media type of a body in lower case, and its parameters (RFC 9110, section 8.3.1)."""
    kind, options = parse_options_header(headers.get("content-type"))
    return kind.lower(), options


async def form_pieces(boundary: str, body: AsyncIterator[bytes]) -> AsyncIterator[FormPiece]:
    """Yield the pieces of a form; that of a file comes once, without bytes, as it begins."""
    if not 0 < len(boundary) <= 200 or not boundary.isascii():
        raise BadRequest("the `Content-Type` of a form names its boundary")
    form = FormReader(MultipartDecoder(boundary.encode(), MOST_TEXT, max_parts=MOST_FORM_PARTS))
    async for data in body:
        for begin in range(0, len(data), AT_A_TIME):
            for piece in form.take(data[begin : begin + AT_A_TIME]):
                yield piece
    for piece in form.take(None):
        yield piece
    form.check_end()


class FormReader:
    """Takes a form apart."""

    def __init__(self, decoder: MultipartDecoder) -> None:
        self.decoder = decoder
        self.name: str | None = ""
        self.filename = ""
        self.has_file = self.has_ended = False
        self.texts = 0

    def take(self, data: bytes | None) -> list[FormPiece]:
        """Return the pieces in the next bytes of a body, None for its end. Raises `BadRequest` and `TooLarge`."""
        found: list[FormPiece] = []
        try:
            self.decoder.receive_data(data)
            while not isinstance(event := self.decoder.next_event(), NeedData):
                if isinstance(event, Epilogue):
                    self.has_ended = True
                    break
                found += self.pieces(event)
        except RequestEntityTooLarge:
            raise TooLarge(
                f"a form has {MOST_FORM_PARTS} parts at most, and {MOST_TEXT} bytes beside the file"
            ) from None
        except ValueError:
            raise BadRequest("the body is no whole form") from None
        return found

    def pieces(self, event: object) -> list[FormPiece]:
        """Return what an event of the decoder means."""
        if isinstance(event, File) and event.name == "file":
            if self.has_file:
                raise ValidationFailed([Cause("too_long", "one file", pointer="/file")])
            self.name, self.filename, self.has_file = None, base_name(event.filename), True
            return [FormPiece(None, b"", self.filename)]
        if isinstance(event, Field | File):
            self.name = event.name or ""
            return [FormPiece(self.name, b"")]
        if not isinstance(event, Data) or not event.data:
            return []
        if self.name is not None:
            self.texts += len(event.data)
            if self.texts > MOST_TEXT:
                raise TooLarge(f"a form has {MOST_TEXT} bytes at most beside the file")
        return [FormPiece(self.name, bytes(event.data), self.filename)]

    def check_end(self) -> None:
        """Raise `BadRequest` where the form has no end, and `ValidationFailed` where no file was in it."""
        if not self.has_ended:
            raise BadRequest("the body is no whole form")
        if not self.has_file:
            raise ValidationFailed([Cause("required", NO_FILE, pointer="/file")])
