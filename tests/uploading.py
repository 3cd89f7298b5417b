"""Files of somebody who is signed in, made without the streams."""

import hashlib
from typing import Any

from service.files.blobs import GridFs
from service.files.uploads import Uploads
from service.model.registry import Registry
from service.policy import Identity
from tests.client import Person


def upload(person: Person, body: dict[str, Any], content: bytes = b"hello") -> dict[str, Any]:
    """A new file of these bytes, with what its client says of it."""
    app = person.client.application
    registry: Registry = app.extensions["madang.registry"]
    told = {"media_type": "text/plain", "sha256": hashlib.sha256(content).hexdigest()}
    loaded = registry["files"].schema.load(body)
    with app.app_context():
        uploads = Uploads(registry, GridFs(), app.config["FILES_ACCOUNT_BYTES"])
        made = uploads.finish(Identity(person.id, "", 0), None, content, {**loaded, **told})
    found: dict[str, Any] = person.get(f"/v1/files/{made['_id']}").json
    return found
