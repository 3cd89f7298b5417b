"""Bytes in anything that speaks S3: an object for each blob, to which a large one comes as a multipart upload.

A part has 5 MiB at least there, and a client may break off anywhere: what is not yet a whole part waits in MongoDB, in
the transaction that tells of it, and goes over with what follows.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, IncompleteReadError, ResponseStreamingError
from botocore.parsers import ResponseParserError
from botocore.session import Session

from service.core.errors import NotFound, StorageUnavailable
from service.core.log import log
from service.documents.blob import Blob
from service.files.blobs import CHUNK_BYTES, UPLOAD_ENDED, BlobPart, BytesGone, GridFs, split_evenly
from service.mongo import deadline
from service.mongo.raw import Raw
from service.records.storage import LIVING

Result = TypeVar("Result")

PART_CHUNKS = 21
"""Chunks of a part: the least that come to 5 MiB, which a part of a multipart upload has to have."""
OBJECT_READ_BYTES = 512 * 1024
"""Most bytes of one read: what a slow download holds in memory."""
CONNECT_SECONDS, ANSWER_SECONDS = 3, 10
"""How long a connection, and a piece of an answer, may take."""
STORE_TRIES = 3
"""How often something is asked for that fails by the moment: `503 SlowDown`, a connection that breaks."""
S3_CONNECTIONS = 64
"""Most connections that a process keeps open."""
REGION = "us-east-1"
"""What servers other than Amazon's take for any."""
ABSENT = frozenset({"404", "NoSuchKey", "NotFound", "InvalidRange"})
OVER = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
"""Codes of a multipart upload that has ended, or that other parts have come to."""


BROKEN_OFF = (IncompleteReadError, ResponseStreamingError, ResponseParserError)
"""What botocore says of an answer that is not whole."""


class Bucket(NamedTuple):
    """What `FILES_URL` names: a bucket, what the keys in it begin with, and where it is."""

    name: str
    prefix: str
    endpoint: str | None
    region: str | None


class Ended(Exception):
    """A multipart upload that is no more, or has other parts than those that are named."""


def bucket_from(url: str) -> Bucket:
    """Return what a `FILES_URL` such as `s3://bucket/folder?endpoint=https://s3.example.com&region=eu-1` names."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    folder = parts.path.strip("/")
    return Bucket(parts.netloc, f"{folder}/" if folder else "", options.get("endpoint"), options.get("region"))


def client_of(bucket: Bucket) -> Any:
    """Return a client, for any thread: its credentials are where AWS's own tools look for them, and are renewed."""
    session = Session()
    region = bucket.region or session.get_config_variable("region") or REGION
    return session.create_client(
        "s3",
        endpoint_url=bucket.endpoint,
        region_name=region,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            max_pool_connections=S3_CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": STORE_TRIES},
            # What Amazon alone has would have others refuse the request; MD5 is what all of them check.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if bucket.endpoint else "auto"},
        ),
    )


class S3:
    """Keeps bytes as objects of a bucket, which is there already and whose objects nobody else reads."""

    step = part = PART_CHUNKS * CHUNK_BYTES
    in_mongodb = False
    most = 5 * 2**30
    """What can be copied at once where somebody goes on with an upload that was ended."""

    def __init__(self, bucket: Bucket, client: Any) -> None:
        self.bucket, self.client = bucket, client
        self.unsent = GridFs()

    # --- They come ---------------------------------------------------------------------------------------------------

    def send(self, blob: str, start: int, data: bytes, last: bool) -> BlobPart:
        """Hand whole parts over, and with `last` all; return what is to be kept in MongoDB.

        Raises `StorageUnavailable`, and `NotFound` where the upload cannot go on.
        """
        if last and start == 0 and len(data) <= self.step:
            self.asked("put_object", Key=self.key(blob), Body=data, ContentMD5=md5(data))
            return BlobPart(len(data), b"")
        whole = len(data) if last else len(data) - len(data) % self.step
        if not whole and not last:
            return BlobPart(start, data)
        try:
            return deadline.apart(self.sent, blob, start, data, whole, last)
        except Ended:
            raise NotFound(UPLOAD_ENDED) from None

    def sent(self, blob: str, start: int, data: bytes, whole: int, last: bool) -> BlobPart:
        """Hand over `whole` bytes as parts, and end the upload with the `last`. Raises `Ended`."""
        upload, known = self.upload_of(blob)
        tags: dict[str, str] = {}
        for offset in range(0, whole, self.step):
            number, piece = (start + offset) // self.step + 1, data[offset : min(whole, offset + self.step)]
            try:
                tags[str(number)] = self.part_sent(blob, upload, number, piece)
            except Ended:
                if tags:
                    raise
                upload, known = self.begun_again(blob, start)
                tags[str(number)] = self.part_sent(blob, upload, number, piece)
        if last:
            self.end(blob, upload, {**known, **tags}, start + whole)
        return BlobPart(start + whole, data[whole:], tags)

    def upload_of(self, blob: str) -> tuple[str, Raw]:
        """Return the multipart upload of a blob, begun where there is none, and the tags of its parts by number."""
        found: Raw = Blob._get_collection().find_one({"_id": blob}, {"multipart": 1, "parts": 1}) or {}
        return (found["multipart"], found.get("parts", {})) if "multipart" in found else self.begun(blob, {})

    def begun(self, blob: str, copied: Mapping[str, Any]) -> tuple[str, Raw]:
        """Begin a multipart upload, with a part that is `copied` if there is one. Raises `Ended`."""
        upload = str(self.asked("create_multipart_upload", Key=self.key(blob))["UploadId"])
        tags = {}
        if copied:
            answer = self.asked("upload_part_copy", Key=self.key(blob), UploadId=upload, PartNumber=1, **copied)
            tags["1"] = answer["CopyPartResult"]["ETag"]
        told = {"$set": {"multipart": upload, "parts": tags}}
        if not Blob._get_collection().update_one({"_id": blob, "file": None, **LIVING}, told).matched_count:
            self.abort(blob, upload)
            raise Ended
        return upload, tags

    def begun_again(self, blob: str, start: int) -> tuple[str, Raw]:
        """Begin another multipart upload with the first `start` bytes of a blob that was ended, and has no file.

        Somebody was killed after the last part: whoever goes on sends that again, and it may be another one. Raises
        `Ended` where there are no such bytes.
        """
        if not start:
            return self.begun(blob, {})
        if (self.size(blob) or 0) < start:
            raise Ended
        source = {"Bucket": self.bucket.name, "Key": self.key(blob)}
        return self.begun(blob, {"CopySource": source, "CopySourceRange": f"bytes=0-{start - 1}"})

    def part_sent(self, blob: str, upload: str, number: int, data: bytes) -> str:
        """Send one part, and return its tag. Raises `Ended`."""
        about: Raw = {"UploadId": upload, "PartNumber": number, "Body": data, "ContentMD5": md5(data)}
        return str(self.asked("upload_part", Key=self.key(blob), **about)["ETag"])

    def end(self, blob: str, upload: str, tags: Mapping[str, str], size: int) -> None:
        """Make one object of the parts. Raises `Ended` where it is not there then."""
        parts = [{"PartNumber": int(number), "ETag": tags[number]} for number in sorted(tags, key=int)]
        try:
            self.asked(
                "complete_multipart_upload", Key=self.key(blob), UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except Ended:
            # Another try may have ended it, whose answer was lost.
            if self.size(blob) != size:
                raise

    def keep(self, blob: str, part: BlobPart) -> None:
        """Keep what is no whole part, and the tags of those that are, as a part of a transaction."""
        self.unsent.keep(blob, part)
        if part.tags:
            told = {f"parts.{number}": tag for number, tag in part.tags.items()}
            Blob._get_collection().update_one({"_id": blob}, {"$set": told})

    def rest(self, blob: str, start: int, stop: int) -> bytes:
        """Return the bytes behind the last whole part; those before are in the store, and go. Raises `BytesGone`."""
        self.unsent.drop(blob, start)
        return self.unsent.rest(blob, start, stop)

    def settle(self, blob: str) -> None:
        """Forget what waited in MongoDB, as a part of the transaction that claims the blob."""
        self.unsent.delete(blob)
        Blob._get_collection().update_one({"_id": blob}, {"$unset": {"multipart": "", "parts": ""}})

    # --- They go -----------------------------------------------------------------------------------------------------

    def read(self, blob: str, start: int, stop: int) -> bytes:
        """Return bytes from `start` on: at least one, and none from `stop` on.

        Raises `BytesGone`, and `StorageUnavailable`.
        """
        span = f"bytes={start}-{min(stop, start + OBJECT_READ_BYTES) - 1}"
        data: bytes = self.asked("get_object", lambda answer: answer["Body"].read(), Key=self.key(blob), Range=span)
        if not data:
            raise BytesGone(blob)
        return data

    def size(self, blob: str) -> int | None:
        """Return how many bytes an object has; None where there is none. Raises `StorageUnavailable`."""
        try:
            return int(self.asked("head_object", Key=self.key(blob))["ContentLength"])
        except BytesGone:
            return None

    def delete(self, blob: str) -> None:
        """Remove all bytes of a blob; where there are none that is done already. Raises `StorageUnavailable`."""
        found: Raw = Blob._get_collection().find_one({"_id": blob}, {"multipart": 1}) or {}
        if "multipart" in found:
            self.abort(blob, found["multipart"])
        self.asked("delete_object", Key=self.key(blob))
        self.unsent.delete(blob)

    def abort(self, blob: str, upload: str) -> None:
        """Give a multipart upload up, with its parts; where there is none that is done already."""
        with suppress(Ended):
            self.asked("abort_multipart_upload", Key=self.key(blob), UploadId=upload)

    def fill(self, blob: str, pieces: Iterable[bytes]) -> None:
        """Store all bytes of a blob that is not there yet. Raises `StorageUnavailable`."""
        upload, size, tags = "", 0, dict[str, str]()
        for start, data in split_evenly(pieces, self.step):
            if start == 0 and len(data) < self.step:
                self.send(blob, 0, data, True)
                return
            upload = upload or str(self.asked("create_multipart_upload", Key=self.key(blob))["UploadId"])
            number, size = start // self.step + 1, start + len(data)
            tags[str(number)] = self.part_sent(blob, upload, number, data)
        self.end(blob, upload, tags, size)

    def strays(self, age: timedelta) -> Iterator[str]:
        """Yield the ids of blobs that are not there, and have an object; multipart uploads of nobody are ended.

        Of what is younger than `age` nothing is said. Raises `StorageUnavailable`.
        """
        latest = datetime.now(UTC) - age
        yield from self.unsent.strays(age)
        for page in self.pages("list_objects_v2", "Contents"):
            ids = [self.blob(row["Key"]) for row in page if row["LastModified"] <= latest]
            there = {row["_id"] for row in Blob._get_collection().find({"_id": {"$in": ids}}, {"_id": 1})}
            # Looked at in this order: a sweep takes the object before the blob.
            yield from (id for id in ids if id not in there and self.size(id) is not None)
        for page in self.pages("list_multipart_uploads", "Uploads"):
            for row in page:
                own = {"_id": self.blob(row["Key"]), "multipart": row["UploadId"]}
                if row["Initiated"] <= latest and Blob._get_collection().find_one(own, {"_id": 1}) is None:
                    self.abort(own["_id"], row["UploadId"])

    def pages(self, operation: str, member: str) -> Iterator[list[Raw]]:
        """Yield what is in the bucket under our keys, page by page."""
        pages = iter(self.client.get_paginator(operation).paginate(Bucket=self.bucket.name, Prefix=self.bucket.prefix))
        while (page := tried(lambda: next(pages, None))) is not None:
            yield page.get(member, [])

    # --- How it is asked ---------------------------------------------------------------------------------------------

    def key(self, blob: str) -> str:
        """Return the key of the object of a blob."""
        return f"{self.bucket.prefix}{blob}"

    def blob(self, key: str) -> str:
        """Return the blob of a key."""
        return key.removeprefix(self.bucket.prefix)

    def asked(self, operation: str, read: Callable[[Any], Any] = lambda answer: answer, **named: Any) -> Any:
        """Return what is read of the answer of the store. Raises `StorageUnavailable`, `BytesGone`, and `Ended`."""
        return tried(lambda: read(getattr(self.client, operation)(Bucket=self.bucket.name, **named)))


def tried(work: Callable[[], Result], again: bool = True) -> Result:
    """Do what asks the store, `again` where an answer breaks off, which botocore does not try once more by itself.

    Raises `BytesGone` and `Ended` by what the store says, and `StorageUnavailable` for the rest.
    """
    try:
        return work()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ABSENT:
            raise BytesGone from None
        if code in OVER:
            raise Ended from None
        reason = code
    except (BotoCoreError, ResponseParserError) as error:
        if again and isinstance(error, BROKEN_OFF):
            return tried(work, False)
        reason = type(error).__name__
    log.warning("storage_unavailable", reason=reason)
    raise StorageUnavailable


def md5(data: bytes) -> str:
    """Return what `Content-MD5` says of some bytes: a store that has got others refuses them."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
