"""The document that every record type inherits: who owns it, who may see it, when it was written."""

from mongoengine import DateTimeField, DictField, IntField, ListField, LongField, StringField

from service.documents.versioned import STAMPS, Versioned

PRINCIPAL = r"^(\*|role:[A-Za-z0-9._-]{1,40}|group:[A-Za-z0-9._-]{1,64}|[A-Za-z0-9._-]{1,64})$"
# In a path, dots alone are no name: a client that resolves `/v1/notes/..` would ask for something else.
ID = r"^(?!\.+$)[A-Za-z0-9_.-]{1,64}$"


WORDS = "search_words"
"""The stored name of the words by which a record is found."""
LEFT = frozenset({"_id", "owner", "created_at", "updated_at", "revision", "purge_at", "going_at"}) | STAMPS
"""The stored names of what is left of a deleted record."""


class Record(Versioned):
    """App data of one account, at `/v1/<collection>`.

    A record type inherits this and says in its `meta`: `collection`; `sorts`, each a field name or several with
    commas, `-` in front for descending; `filters`, the fields that `where` may name; `search`, the text fields that
    search reads, the most telling first; `example`, a body that makes a record. The index of each sort follows from it.

    A field takes these arguments beside MongoEngine's own: `read_only=True`, the server sets it and a client may not;
    `fixed=True`, a client says it once, at creation; `hidden=True`, no client sees it; `owner_only=True`, only the
    owner of the record may write it; `collation`, the alphabet of the sorts by it, such as "sv"; `help_text`, what the
    API documentation says of it; `delete_rule`, on a reference in an embedded document, what MongoEngine's
    `reverse_delete_rule` is elsewhere; `as_string=True`, on a LongField, JSON has it as a string. Any other argument
    stops the start.

    Records are written by `service/records/store.py` alone.
    """

    id = StringField(primary_key=True, regex=ID, max_length=64, help_text="chosen by the client, or made by the server")
    owner = StringField(required=True, read_only=True, help_text="account id; of a group `group:` and its own id")
    readers = ListField(
        StringField(regex=PRINCIPAL),
        max_length=100,
        owner_only=True,
        help_text="who may read: account ids, `role:<name>`, `group:<id>`, or `*` for everyone signed in",
    )
    writers = ListField(
        StringField(regex=PRINCIPAL),
        max_length=100,
        owner_only=True,
        help_text="who may read and write, listed as in `readers`",
    )
    created_at = DateTimeField(required=True, read_only=True)
    updated_at = DateTimeField(required=True, read_only=True)
    revision = IntField(required=True, read_only=True, min_value=1, help_text="1 at creation, +1 on every write")

    # One list holds all who may read, marked by how they came to it (`service/policy.py`), so that a single index per
    # sort serves the own, the shared and the public records alike. A compound index takes one list, so `readers` and
    # `tags` could not share.
    access = ListField(StringField(), hidden=True)
    # What is searched: for each text its name `f`, its words `w` for each who may find it, and told in one string `t`
    # how often each is there (`service/records/search_words.py`).
    search_words = ListField(DictField(), hidden=True)
    # A deleted record leaves a tombstone: its id, revision and owner, and when it goes.
    purge_at = DateTimeField(hidden=True)
    # A tombstone of what others may refer to: when it was deleted, until the sweep has released them once more.
    going_at = DateTimeField(hidden=True)
    # How often a record that keeps this one came to refer to it: written for the sake of the write.
    reference_writes = LongField(hidden=True)

    meta = {
        "abstract": True,
        "auto_create_index": False,
        "indexes": [
            {"fields": ["purge_at"], "expireAfterSeconds": 0, "sparse": True},
            {"fields": ["going_at"], "sparse": True},
        ],
        "sorts": ["updated_at", "-updated_at", "created_at", "-created_at"],
        "filters": ["id", "owner", "created_at", "updated_at", "revision"],
        "search": [],
    }
