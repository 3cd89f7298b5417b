"""A real server that speaks S3, and what is in it: SeaweedFS, one process in a folder of its own."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.documents import Blob, BlobChunk
from service.files.blobs import Blobs
from service.files.s3 import S3, bucket_from, client_of
from service.serve.ports import free_port

KEY, SECRET = "madang", "three-green-boats"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}
BUCKET = "madang"
IDENTITIES = {
    "identities": [
        {
            "name": KEY,
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List"],
        }
    ]
}
STARTS_WITHIN = 60


@contextmanager
def object_store(folder: Path) -> Iterator[int]:
    """Run the server while the block runs; give its port."""
    rules = folder / "identities.json"
    rules.write_text(json.dumps(IDENTITIES))
    port = free_port()
    ports = [f"-{name}={free_port()}" for name in PORTS]
    local = [f"-{name}=127.0.0.1" for name in ("ip", "ip.bind")]
    size = ["-volume.max=30", "-master.volumeSizeLimitMB=64", "-volume.minFreeSpace=1"]
    speaks = ["-filer", "-s3", f"-s3.port={port}", f"-s3.config={rules}", "-s3.autoCreateBucket=false", "-s3.iam=false"]
    beside = ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                Path(sys.executable).with_name("weed"),
                "server",
                f"-dir={folder}",
                *local,
                *ports,
                *size,
                *speaks,
                *beside,
            ],
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        try:
            wait_for(process, port, folder / "log")
            yield port
        finally:
            process.kill()
            process.wait()


PORTS = (
    *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
    *("filer.port", "filer.port.grpc", "s3.port.grpc"),
)


def wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Wait until the server answers; what it has written to its log is told where it does not."""
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
            return
        time.sleep(0.1)
    end_of_log = log.read_text(errors="replace")[-3000:]
    raise AssertionError(f"weed does not answer; it has ended with {process.poll()}:\n{end_of_log}")


def url_of(port: int, folder: str, bucket: str = BUCKET) -> str:
    """What FILES_URL says of a folder there."""
    return f"s3://{bucket}/{folder}?endpoint=http://127.0.0.1:{port}"


def make_bucket(port: int, bucket: str = BUCKET) -> None:
    """Make a bucket."""
    client_of(bucket_from(url_of(port, ""))).create_bucket(Bucket=bucket)


def keys_in(store: S3) -> list[str]:
    """The keys of all objects, and of all multipart uploads that are under way."""
    objects = [row["Key"] for page in store.pages("list_objects_v2", "Contents") for row in page]
    return objects + [row["Key"] for page in store.pages("list_multipart_uploads", "Uploads") for row in page]


def stored_in(blobs: Blobs) -> tuple[int, int]:
    """How many blobs there are, and how many chunks, objects and multipart uploads: of all bytes, wherever."""
    beside = len(keys_in(blobs)) if isinstance(blobs, S3) else 0
    return Blob._get_collection().count_documents({}), BlobChunk._get_collection().count_documents({}) + beside


def put(blobs: Blobs, blob: str, data: bytes) -> None:
    """Put other bytes in the place of those of a blob."""
    blobs.keep(blob, blobs.send(blob, 0, data, True))


def slow_down(status: int) -> tuple[str, bytes]:
    """How S3 says that it has too much to do."""
    return "application/xml", b"<Error><Code>%s</Code></Error>" % {503: b"SlowDown", 400: b"BadDigest"}[status]
