"""Who may do what: the filter, the set and the answer about one record say the same."""

from typing import Any

import mongomock
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import policy
from service.core.clock import now
from service.documents import Note
from service.policy import ANY, Identity
from tests.properties import examples
from tests.types import REGISTRY, new

NOTES = REGISTRY.of(Note)
ACCOUNTS = st.sampled_from(["ada", "bob", "eve"])
PRINCIPALS = st.sampled_from(["ada", "bob", "eve", "role:team", "role:boss", "*"])
IDENTITIES = st.builds(
    Identity, ACCOUNTS, st.just("session"), st.just(0), st.sampled_from([(), ("team",), ("team", "boss")])
)
RECORDS = st.fixed_dictionaries(
    {"readers": st.lists(PRINCIPALS, max_size=2), "writers": st.lists(PRINCIPALS, max_size=2)}
)


def matches(record: dict[str, Any], condition: dict[str, Any]) -> bool:
    """Whether a database finds the record by a filter."""
    collection = mongomock.MongoClient().db.records
    collection.insert_one(record)
    return collection.find_one(condition) is not None


@given(identity=IDENTITIES, owner=ACCOUNTS, content=RECORDS, action=st.sampled_from(["read", "write", "own"]))
@examples(150)
def test_the_filter_and_the_answer_about_one_record_agree(
    identity: Identity, owner: str, content: dict[str, Any], action: Any
) -> None:
    record = new(Note, owner, content)
    readable = matches({**record}, policy.scope(identity, "read", NOTES))
    allowed = matches({**record}, policy.scope(identity, action, NOTES))
    assert allowed <= readable
    if readable:
        assert policy.may(identity, action, record) == allowed


@given(
    identity=IDENTITIES, owner=ACCOUNTS, content=RECORDS, within=st.lists(st.sampled_from(ANY), min_size=1, unique=True)
)
@examples(150)
def test_the_filter_and_the_set_agree(
    identity: Identity, owner: str, content: dict[str, Any], within: list[str]
) -> None:
    record = new(Note, owner, content)
    found = matches({**record}, policy.scope(identity, "read", NOTES, within))
    assert found == bool(set(record["access"]) & set(policy.entries(identity, within)))


@pytest.mark.parametrize(
    ("content", "entries"),
    [
        ({}, ["o:ada"]),
        ({"readers": ["bob"], "writers": ["role:team", "bob"]}, ["o:ada", "r:bob", "r:role:team"]),
        ({"readers": ["*"]}, ["o:ada", "r:*"]),
    ],
)
def test_the_access_list_names_the_owner_and_all_to_whom_it_was_given(content: Any, entries: list[str]) -> None:
    assert policy.access_list("ada", content) == entries


def test_no_principal_passes_for_an_owner() -> None:
    given_to_a_trickster = new(Note, "ada", {"readers": ["o:eve"]})
    assert not set(given_to_a_trickster["access"]) & set(policy.entries(Identity("eve", "s", 0)))


@pytest.mark.parametrize("action", ["read", "write", "own"])
def test_a_tombstone_is_found_by_no_filter(action: Any) -> None:
    record = new(Note, "ada", {"writers": ["ada"]})
    del record["access"]
    assert not matches({**record, "purge_at": now()}, policy.scope(Identity("ada", "s", 0), action, NOTES))


def test_nobody_may_write_where_no_writers_are_named() -> None:
    assert not policy.may(Identity("bob", "s", 0), "write", {"owner": "ada"})
    assert policy.may(Identity("ada", "s", 0), "write", {"owner": "ada"})


def test_a_withdrawal_takes_all_from_one_principal_and_nothing_from_others() -> None:
    records = mongomock.MongoClient().db.records
    given = {"readers": ["bob", "eve"], "writers": ["eve", "bob"], "access": ["o:ada", "r:bob", "r:eve"]}
    records.insert_one({"_id": 1, **given})
    records.update_one({"_id": 1}, policy.withdrawal("bob"))
    left = {"readers": ["eve"], "writers": ["eve"], "access": ["o:ada", "r:eve"]}
    assert records.find_one() == {"_id": 1, **left}


def test_the_marks_that_are_stored_keep_their_form() -> None:
    assert (policy.OWNER, policy.GIVEN, policy.WITHDRAWN, policy.MEMBER) == ("o:", "r:", "x:", "a:")


def test_an_identity_hears_of_what_it_may_read_what_it_no_longer_may_and_its_own_roles() -> None:
    ada = Identity("ada", "s", 0, ("team",))
    readable = ["o:ada", "r:ada", "r:role:team", "r:*"]
    assert policy.marks(ada) == [*readable, "x:ada", "x:role:team", "x:*", "a:ada"]
    assert policy.marks(ada, ("shared",)) == ["r:ada", "r:role:team", "x:ada", "x:role:team", "a:ada"]
    assert [policy.withdrawn(entry) for entry in readable[1:]] == ["x:ada", "x:role:team", "x:*"]


def test_an_identity_is_written_as_the_id_of_its_account() -> None:
    assert str(Identity("ada", "s", 0)) == "ada"


def test_a_record_is_not_buried_as_long_as_it_has_no_time_to_be_purged() -> None:
    # Said by word: mongomock takes an empty condition for the same.
    assert policy.NOT_BURIED == {"purge_at": {"$exists": False}}
