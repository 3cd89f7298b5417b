"""What files take is counted to the byte, also where more blobs go than one step gives up."""

import pytest

from service.documents import Account, Blob, File
from service.records import storage, store
from service.records.storage import LIVING
from tests.client import Person
from tests.types import type_of
from tests.uploading import upload


@pytest.fixture
def five(ada: Person, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Five files, of which one step gives up the bytes of two."""
    made = [upload(ada, {"name": str(number)})["id"] for number in range(5)]
    monkeypatch.setattr(storage, "BATCH", 2)
    return made


def left(account: str) -> tuple[int, int]:
    """How many blobs live, and what is counted of their account."""
    stored = Account._get_collection().find_one({"_id": account})
    assert stored is not None
    return Blob._get_collection().count_documents(LIVING), stored["storage_bytes"]


def test_of_many_files_that_are_erased_at_once_no_byte_stays(ada: Person, five: list[str]) -> None:
    store.erase(type_of(File), five)
    assert left(ada.id) == (0, 0)


@pytest.mark.real
def test_of_many_files_that_are_deleted_at_once_no_byte_stays(ada: Person, five: list[str]) -> None:
    requests = [{"method": "DELETE", "path": f"/v1/files/{id}"} for id in five]
    assert ada.post("/v1/batch", {"requests": requests, "atomic": True}).status_code == 200
    assert left(ada.id) == (0, 0)
