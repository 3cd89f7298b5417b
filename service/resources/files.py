"""Files as the API sees them: their records. Their bytes come and go through the streams, and are described here."""

from typing import Any

from flask import current_app, request
from pydantic import Field

from service.context import current_globals, current_registry
from service.core.errors import Cause, NotFound, NotSupported, ValidationFailed
from service.documents import File
from service.files.blobs import FILE_NOT_THERE
from service.files.images_sizes import sizes_by_name
from service.files.links import LONGEST_LINK, FileLinks
from service.http.arguments import Arguments, take
from service.http.openapi import operation
from service.http.web import Answer, json_answer
from service.records.reading import Reader
from service.resources.live import STREAMS_ANSWER
from service.resources.records import RecordList
from service.resources.resource import Resource
from service.security import security

PRINCIPALS = {"type": "array", "items": {"type": "string"}}
UPLOAD: dict[str, Any] = {
    "title": "FileUpload",
    "type": "object",
    "description": "A file, and what its record says beside it. Or send the bare bytes, with their name in "
    "`Content-Disposition`.",
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "the bytes, with a file name"},
        "id": {"type": "string", "description": "the id of the record, else one is made"},
        "name": {"type": "string", "description": "else the file name"},
        "readers": PRINCIPALS,
        "writers": PRINCIPALS,
    },
    "required": ["file"],
}
CONTENT = {"type": "string", "format": "binary"}
FILE_HEADERS = ("ETag", "Accept-Ranges")
OF_STREAMS = ("not_supported", "not_found")


class FileList(RecordList):
    """All files that the identity may see, and where new ones come."""

    @operation(
        "Upload a file",
        name="upload{type}",
        body=UPLOAD,
        body_type="multipart/form-data",
        answer={201: "read"},
        headers={201: ["Location", "ETag"]},
        problems=["quota_exceeded", "too_many_requests", "storage_unavailable", *OF_STREAMS],
        bounded=lambda: False,
    )
    def post(self) -> Any:
        """Say that the streams answer: a door hands over to them what comes here."""
        raise NotSupported(STREAMS_ANSWER)


class FileContent(Resource):
    """The bytes of a file."""

    @operation(
        "Get the bytes of a file, or some of them",
        name="getFileContent",
        tag="files",
        parameters=frozenset({"inline", "link", "size"}),
        answer={200: CONTENT, 206: CONTENT, 304: None},
        headers={200: FILE_HEADERS, 206: [*FILE_HEADERS, "Content-Range"], 304: ["ETag"]},
        media_type="application/octet-stream",
        problems=["range_not_satisfiable", "revision_mismatch", "bad_image", "storage_unavailable", *OF_STREAMS],
    )
    def get(self, id: str) -> None:
        """Say that the streams answer: a door hands over to them what comes here."""
        raise NotSupported(STREAMS_ANSWER)


class ReferredFile(Resource):
    """The bytes of a file to which a record refers."""

    @operation(
        "Get the bytes of a file through a record that refers to it",
        parameters=frozenset({"inline", "size"}),
        answer={200: CONTENT, 206: CONTENT, 304: None},
        headers={200: FILE_HEADERS, 206: [*FILE_HEADERS, "Content-Range"], 304: ["ETag"]},
        media_type="application/octet-stream",
        problems=["range_not_satisfiable", "revision_mismatch", "bad_image", "storage_unavailable", *OF_STREAMS],
    )
    def get(self, id: str, file: str) -> None:
        """Say that the streams answer: a door hands over to them what comes here."""
        raise NotSupported(STREAMS_ANSWER)


class NewLink(Arguments):
    """The body that makes a link to the bytes of a file."""

    expires_in: int = Field(default=3600, ge=1, le=LONGEST_LINK, description="seconds for which it is good")
    size: str | None = Field(default=None, max_length=40, description="that of a smaller image, such as thumb")


LINK = {
    "title": "FileLink",
    "type": "object",
    "properties": {"url": {"type": "string"}, "expires_in": {"type": "integer"}},
    "required": ["url", "expires_in"],
}


class FileLinkList(Resource):
    """Links to the bytes of a file."""

    @operation(
        "Make a link to the bytes of a file, which is good without a token",
        name="createFileLink",
        tag="files",
        body=NewLink,
        example={"expires_in": 3600},
        answer={201: LINK},
        bounded=lambda: False,
    )
    def post(self, id: str) -> Answer:
        """Return a link for image views and players. It reads as this account, as long as that may read the file."""
        sent, identity = take(NewLink), current_globals().identity
        if sent.size is not None and sent.size not in (sizes := sizes_by_name(current_app.config["FILES_SIZES"])):
            raise ValidationFailed([Cause("not_allowed", f"one of {', '.join(sizes)}", pointer="/size")])
        registry = current_registry()
        if Reader(registry, registry.of(File), identity).find(id) is None:
            raise NotFound(FILE_NOT_THERE)
        text = FileLinks(security().keys.each("file link")).made(id, identity.account, sent.expires_in, sent.size)
        address = (current_app.config["PUBLIC_URL"] or request.host_url).rstrip("/")
        told = {"url": f"{address}/v1/files/{id}/content?link={text}", "expires_in": sent.expires_in}
        answer = json_answer(told, 201)
        answer.keepable = False  # a credential, which is stored nowhere
        return answer
