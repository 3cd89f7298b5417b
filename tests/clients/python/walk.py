"""What an app does, with the generated Python client against a real service: the address is the first argument."""

import sys
import uuid
from datetime import UTC, date, datetime
from http import HTTPStatus

from madang_client import AuthenticatedClient, Client
from madang_client.api.accounts import export_own_account, get_own_account, sign_up
from madang_client.api.auth import log_in, log_out, refresh_tokens
from madang_client.api.batch import send_batch
from madang_client.api.changes import list_changes
from madang_client.api.functions import rate_gyms
from madang_client.api.gyms import create_gym
from madang_client.api.notebooks import create_notebook
from madang_client.api.notes import change_note, create_note, list_notes
from madang_client.models import (
    Account,
    AccountExport,
    BatchAnswer,
    BatchArguments,
    BatchRequest,
    BatchRequestMethod,
    ChangePage,
    ChangeRecord,
    Gym,
    GymCreate,
    GymCreateExtra,
    GymCreateHours,
    GymKind,
    GymMood,
    LoginArguments,
    LogoutArguments,
    MachineCreate,
    MachineState,
    Note,
    Notebook,
    NotebookCreate,
    NoteCreate,
    NoteExpanded,
    NoteInc,
    NotePage,
    NotePatch,
    NotePush,
    NoteSort,
    NoteTagsPushed,
    OwnAccount,
    Point,
    PointType,
    Problem,
    Rated,
    Rating,
    RefreshArguments,
    SignUp,
    TokenAnswer,
)

BASE, PASSWORD = sys.argv[1], "correct horse battery"
name = f"ada-{uuid.uuid4().hex[:8]}"
anybody = Client(base_url=BASE)

# Sign up and log in.
account = sign_up.sync(client=anybody, body=SignUp(username=name, password=PASSWORD))
assert isinstance(account, Account)
tokens = log_in.sync(client=anybody, body=LoginArguments(username=name, password=PASSWORD, device="walk"))
assert isinstance(tokens, TokenAnswer)
ada = AuthenticatedClient(base_url=BASE, token=tokens.access_token)

# Create, with a key; sent again, it is done once.
key = str(uuid.uuid4())
body = NoteCreate(title="Bread", priority=1, place=Point(type_=PointType.POINT, coordinates=[127.0, 37.5]))
made = create_note.sync(client=ada, body=body, idempotency_key=key)
again = create_note.sync_detailed(client=ada, body=body, idempotency_key=key)
assert isinstance(made, Note)
assert again.parsed == made
assert again.headers["Idempotent-Replayed"] == "true"

# List with `where`, and what a reference points to.
book = create_notebook.sync(client=ada, body=NotebookCreate(title="Kitchen"))
assert isinstance(book, Notebook)
change_note.sync(made.id, client=ada, body=NotePatch(notebook=book.id))
page = list_notes.sync(
    client=ada,
    where='{"title": "Bread"}',
    sort=NoteSort.PRIORITY_DESCENDING_DUE_ASCENDING,
    expand="notebook",
    scope="mine",
)
assert isinstance(page, NotePage)
(item,) = page.items
assert (item.id, item.notebook) == (made.id, book.id)
assert isinstance(item.expanded, NoteExpanded)
assert item.expanded.notebook == book

# Operators; and a change that was made on what is no longer there.
push = NotePush(tags=NoteTagsPushed(each=["home"]))
counted = change_note.sync(made.id, client=ada, body=NotePatch(inc=NoteInc(priority=2), push=push))
assert isinstance(counted, Note)
assert (counted.priority, counted.tags) == (3, ["home"])
late = change_note.sync_detailed(made.id, client=ada, body=NotePatch(title="Late"), if_match=f'"{made.revision}"')
assert late.status_code == HTTPStatus.PRECONDITION_FAILED
assert isinstance(late.parsed, Problem)
assert late.parsed.code == "revision_mismatch"

# A type of somebody's own: every kind of value comes back as it was sent.
hours, extra = GymCreateHours(), GymCreateExtra()
hours["mo"], extra["any"] = "6-22", ["thing", None]
gym = GymCreate(
    name="Yard",
    kind=GymKind.VALUE_2,
    level=2,
    mood=GymMood.GOOD,
    members=2**53 + 1,
    steps=str(2**53 + 1),
    rating=4.5,
    fee="12.50",
    opened=date(2026, 11, 22),
    serviced=datetime(2026, 11, 22, 10, tzinfo=UTC),
    serial=uuid.uuid4(),
    corner=[127.0, 37.5],
    hours=hours,
    extra=extra,
    machines=[MachineCreate(name="rower", weight_kg=30.5, state=MachineState.WORN_OUT)],
)
stored = create_gym.sync(client=ada, body=gym)
assert isinstance(stored, Gym)
sent, back = gym.to_dict(), stored.to_dict()
machine = {"serial": None, "bought": None, "keeper": None, **sent.pop("machines")[0]}
assert back.pop("machines") == [machine]
assert sent.items() <= back.items()

# A function of somebody's own, with a typed answer, and the problem of a body that it does not take.
rated = rate_gyms.sync(client=ada, body=Rating(name="Yard", stars=5))
assert isinstance(rated, Rated)
assert rated.gyms == 1
most = rate_gyms.sync(client=ada, body=Rating(name="Yard", stars=6))
assert isinstance(most, Problem)
assert most.code == "validation_failed"

# Many at once.
change = BatchRequest(method=BatchRequestMethod.PATCH, path=f"/v1/notes/{made.id}", body={"title": "Rye"})
missing = BatchRequest(method=BatchRequestMethod.GET, path="/v1/notes/none")
batch = send_batch.sync(client=ada, body=BatchArguments(requests=[change, missing]))
assert isinstance(batch, BatchAnswer)
assert [part.status for part in batch.responses] == [200, 404]

# What has changed, and what has changed since.
changes = list_changes.sync(client=ada, types="notes")
assert isinstance(changes, ChangePage)
(changed,) = changes.items
assert isinstance(changed.record, ChangeRecord)
assert (changed.type_, changed.id, changed.record["title"]) == ("notes", made.id, "Rye")
since = list_changes.sync(client=ada, types="notes", cursor=changes.cursor)
assert isinstance(since, ChangePage)
assert since.items == []

# Refresh, go on with the new tokens, log out.
fresh = refresh_tokens.sync(client=anybody, body=RefreshArguments(refresh_token=tokens.refresh_token))
assert isinstance(fresh, TokenAnswer)
ada = AuthenticatedClient(base_url=BASE, token=fresh.access_token)
own = get_own_account.sync(client=ada)
assert isinstance(own, OwnAccount)
assert (own.id, own.username) == (account.id, account.username)
exported = export_own_account.sync(client=ada)
assert isinstance(exported, AccountExport)
assert exported.notes[0].title == "Rye"
assert log_out.sync_detailed(client=ada, body=LogoutArguments()).status_code == HTTPStatus.NO_CONTENT
refused = list_notes.sync(client=ada)
assert isinstance(refused, Problem)
assert refused.code == "not_authenticated"
print("done")
