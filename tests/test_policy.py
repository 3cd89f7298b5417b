"""Who may do what: the filter, the set and the answer about one record say the same."""

from dataclasses import replace
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
PRINCIPALS = st.sampled_from(["ada", "bob", "eve", "role:team", "role:boss", "group:g1", "group:g2", "*"])
OWNERS = ACCOUNTS | st.sampled_from(["group:g1", "group:g2"])
MEMBERSHIPS = st.dictionaries(st.sampled_from(["g1", "g2"]), st.sampled_from(["member", "manager"]))
IDENTITIES = st.builds(
    lambda account, roles, held: Identity.of(
        {"_id": account, "roles": roles, "groups": [{"group": id, "role": role} for id, role in held.items()]}
    ),
    ACCOUNTS,
    st.sampled_from([(), ("team",), ("team", "boss")]),
    MEMBERSHIPS,
)
RECORDS = st.fixed_dictionaries(
    {"readers": st.lists(PRINCIPALS, max_size=2), "writers": st.lists(PRINCIPALS, max_size=2)}
)


def matches(record: dict[str, Any], condition: dict[str, Any]) -> bool:
    """Whether a database finds the record by a filter."""
    collection = mongomock.MongoClient().db.records
    collection.insert_one(record)
    return collection.find_one(condition) is not None


@given(identity=IDENTITIES, owner=OWNERS, content=RECORDS, action=st.sampled_from(["read", "write", "own"]))
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
    identity=IDENTITIES, owner=OWNERS, content=RECORDS, within=st.lists(st.sampled_from(ANY), min_size=1, unique=True)
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
        ({"readers": ["group:g1", "bob"]}, ["o:ada", "r:bob", "r:group:g1"]),
    ],
)
def test_the_access_list_names_the_owner_and_all_to_whom_it_was_given(content: Any, entries: list[str]) -> None:
    assert policy.access_list("ada", content) == entries


def test_what_belongs_to_a_group_is_given_to_it() -> None:
    assert policy.access_list("group:g", {}) == ["o:group:g", "r:group:g"]
    assert policy.access_list("group:g", {"readers": ["*", "group:g"]}) == ["o:group:g", "r:*", "r:group:g"]


def test_who_manages_a_group_acts_as_the_owner_of_what_belongs_to_it() -> None:
    member, manager = (
        Identity.of({"_id": "ada", "groups": [{"group": "g", "role": role}]}) for role in ("member", "manager")
    )
    record = {"owner": "group:g"}
    assert [policy.may(member, action, record) for action in ("read", "write", "own")] == [True, False, False]
    assert [policy.may(manager, action, record) for action in ("read", "write", "own")] == [True, True, True]
    assert policy.group_of("group:g") == "g"
    assert [policy.group_of(principal) for principal in ("ada", "*", "role:g")] == [None] * 3


@given(owner=OWNERS, content=RECORDS, action=st.sampled_from(["read", "write", "own"]))
@examples(50)
def test_the_scope_admin_is_that_of_all_records_and_comes_with_the_console_alone(
    owner: str, content: dict[str, Any], action: Any
) -> None:
    record = new(Note, owner, content)
    holder = Identity.of({"_id": "someone", "roles": ["admin"]})
    assert not holder.is_admin
    assert matches({**record}, policy.scope(holder, "own", NOTES)) is False
    admin = holder.in_console
    assert admin is not None
    assert matches({**record}, policy.scope(admin, action, NOTES))
    assert policy.may(admin, action, record)
    assert not matches({**record, "purge_at": now()}, policy.scope(admin, action, NOTES))
    assert policy.entries(admin) == policy.entries(holder)
    assert Identity.of({"_id": "someone", "roles": ["Admin", "admins"]}).in_console is None
    assert replace(admin, roles=()).in_console is None


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


def test_a_withdrawal_takes_the_mark_of_who_has_founded_a_group_too() -> None:
    records = mongomock.MongoClient().db.records
    records.insert_one({"_id": 1, "access": ["o:ada", policy.founded_by("bob"), policy.founded_by("eve")]})
    records.update_one({"_id": 1}, policy.withdrawal("bob"))
    assert records.find_one() == {"_id": 1, "access": ["o:ada", "x:eve"]}


def test_the_mark_of_a_founder_stays_when_an_access_list_is_made_anew() -> None:
    before = ["o:group:g", "r:group:g", "r:bob", "x:ada", 7]
    assert policy.access_list("group:g", {"readers": ["eve"]}, before) == ["o:group:g", "r:eve", "r:group:g", "x:ada"]


def test_some_principals_stand_for_accounts_roles_and_groups() -> None:
    named = policy.named_by(["ada", "role:team", "*", "group:g", "bob", "role:boss"])
    assert named == (["ada", "bob"], ["team", "boss"], ["g"])


def test_what_has_a_mark_is_heard_by_the_principal_that_it_names() -> None:
    marks = [policy.owned_by("ada"), policy.given_to("role:team"), policy.founded_by("bob"), policy.member_mark("eve")]
    assert [policy.heard_by(mark) for mark in marks] == ["ada", "role:team", "bob", "eve"]


def test_the_marks_that_are_stored_keep_their_form() -> None:
    assert (policy.OWNER, policy.GIVEN, policy.WITHDRAWN, policy.MEMBER) == ("o:", "r:", "x:", "a:")


def test_an_identity_hears_of_what_it_may_read_what_it_no_longer_may_and_its_own_roles() -> None:
    ada = Identity("ada", "s", 0, ("team",), ("g",), ("g",))
    readable = ["o:ada", "r:ada", "r:role:team", "r:group:g", "r:*"]
    ends = ["x:ada", "x:role:team", "x:group:g", "x:*"]
    assert policy.marks(ada) == [*readable, *ends, "a:ada"]
    assert policy.marks(ada, ("shared",)) == [*readable[1:-1], *ends[:-1], "a:ada"]
    assert [policy.withdrawn(entry) for entry in readable[1:]] == ends


def test_an_identity_is_written_as_the_id_of_its_account() -> None:
    assert str(Identity("ada", "s", 0)) == "ada"


def test_who_acts_without_a_session_has_none_and_no_login() -> None:
    acting = Identity.of({"_id": "ada"})
    assert (acting.session, acting.auth_time, acting.is_admin) == ("", 0, False)


def test_a_record_is_not_buried_as_long_as_it_has_no_time_to_be_purged() -> None:
    # Said by word: mongomock takes an empty condition for the same.
    assert policy.NOT_BURIED == {"purge_at": {"$exists": False}}


def test_the_owner_of_a_record_is_the_entry_of_an_owner_in_its_access_list() -> None:
    assert policy.owner_in(["r:*", "o:ada", "r:bob"]) == "ada"
    assert policy.owner_in(["r:ada", "x:ada", "r:role:o:x"]) is None
    assert policy.owner_in([]) is None


@pytest.mark.parametrize(
    ("within", "entries"),
    [(("mine",), ["o:ada"]), (("shared",), ["r:ada", "r:role:team"]), (("public",), ["r:*"])],
)
def test_each_scope_has_its_own_entries(within: Any, entries: list[str]) -> None:
    assert policy.entries(Identity("ada", "s", 0, ("team",)), within) == entries


def test_what_is_read_of_an_account_holds_all_that_it_is_a_member_of() -> None:
    accounts = mongomock.MongoClient().db.accounts
    held = {"roles": ["team"], "groups": [{"group": "g", "role": "manager"}, {"group": "h", "role": "member"}]}
    accounts.insert_one({"_id": "ada", "username": "ada", **held})
    read = accounts.find_one({}, policy.HELD)
    assert read == {"_id": "ada", **held}
    assert Identity.of(read) == Identity("ada", "", 0, ("team",), ("g", "h"), ("g",))


def test_an_identity_within_some_memberships_has_the_others_no_longer() -> None:
    ada = Identity("ada", "s", 7, ("team", "boss"), ("g", "h", "i"), ("g", "h"))
    assert ada.within(["role:team", "group:h", "group:i"]) == Identity("ada", "s", 7, ("team",), ("h", "i"), ("h",))
    assert ada.within([]) == Identity("ada", "s", 7)
    assert ada.within(ada.memberships) == ada


def test_what_one_holds_is_found_by_its_entry_as_the_owner() -> None:
    shared = new(Note, "ada", {"readers": ["bob"]})
    assert matches({**shared}, policy.held_by("ada"))
    assert not matches({**shared}, policy.held_by("bob"))
    assert matches(new(Note, "group:g", {}), policy.held_by("group:g"))
