"""FastAPI, Beanie and PyJWT, as their documentation shows it."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import jwt
from beanie import Document, PydanticObjectId, UpdateResponse, init_beanie
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, IndexModel

SECRET = os.environ["BENCH_SECRET"]
Tag = Annotated[str, Field(min_length=1, max_length=40)]
Degrees = Annotated[list[float], Field(min_length=2, max_length=2)]


class Point(BaseModel):
    """A GeoJSON point."""

    type: Literal["Point"]
    coordinates: Degrees


class ChecklistItem(BaseModel):
    """A line of a checklist."""

    text: str = Field(min_length=1, max_length=200)
    done: bool = False


class NoteIn(BaseModel):
    """A note as it is sent."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=200)
    body: str = Field(default="", max_length=100_000)
    tags: list[Tag] = Field(default=[], max_length=20)
    pinned: bool = False
    priority: int = Field(default=0, ge=0, le=5)
    due: datetime | None = None
    place: Point | None = None
    checklist: list[ChecklistItem] = Field(default=[], max_length=100)
    notebook: str | None = None


class NotePatch(BaseModel):
    """The fields of a note that change."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = Field(default=None, min_length=1, max_length=200)
    body: str | None = Field(default=None, max_length=100_000)
    tags: list[Tag] | None = Field(default=None, max_length=20)
    pinned: bool | None = None
    priority: int | None = Field(default=None, ge=0, le=5)
    due: datetime | None = None
    place: Point | None = None
    checklist: list[ChecklistItem] | None = Field(default=None, max_length=100)
    notebook: str | None = None


class Stamped(NoteIn):
    """What the server adds to a note."""

    owner: str
    created_at: datetime
    updated_at: datetime
    revision: int = 1


class Note(Document, Stamped):
    """A note as it is stored."""

    class Settings:
        """Where it is stored."""

        name = "notes"
        indexes = (IndexModel([("owner", ASCENDING), ("updated_at", DESCENDING), ("_id", DESCENDING)]),)


class NoteOut(Stamped):
    """A note as it is answered."""

    id: PydanticObjectId


class Page(BaseModel):
    """A list of notes."""

    items: list[NoteOut]


class RefreshToken(BaseModel):
    """The body of a refresh."""

    refresh_token: str


class Tokens(RefreshToken):
    """The answer of a refresh."""

    access_token: str


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Connect."""
    client: AsyncMongoClient = AsyncMongoClient(os.environ["BENCH_URI"])
    await init_beanie(database=client.get_default_database(), document_models=[Note])
    yield
    await client.close()


app = FastAPI(lifespan=lifespan)
bearer = HTTPBearer()


async def current_account(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
    """Return the account that the token names."""
    try:
        return str(jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"])["sub"])
    except (jwt.PyJWTError, KeyError):
        raise HTTPException(401, "not authenticated") from None


Account = Annotated[str, Depends(current_account)]


def found(note: Note | None) -> Note:
    """Return a note that is there."""
    if note is None:
        raise HTTPException(404, "not found")
    return note


@app.get("/notes/{id}", response_model=NoteOut)
async def get_note(id: PydanticObjectId, account: Account) -> Note:
    """Return one note."""
    return found(await Note.find_one(Note.id == id, Note.owner == account))


@app.get("/notes", response_model=Page)
async def list_notes(
    account: Account, pinned: bool | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> dict[str, list[Note]]:
    """Return the notes that were written last."""
    query = Note.find(Note.owner == account)
    if pinned is not None:
        query = query.find(Note.pinned == pinned)
    return {"items": await query.sort("-updated_at", "-_id").limit(limit).to_list()}


@app.post("/notes", status_code=201, response_model=NoteOut)
async def create_note(body: NoteIn, account: Account) -> Note:
    """Store a new note."""
    now = datetime.now(UTC)
    return await Note(**body.model_dump(), owner=account, created_at=now, updated_at=now).insert()


@app.patch("/notes/{id}", response_model=NoteOut)
async def patch_note(id: PydanticObjectId, body: NotePatch, account: Account) -> Note:
    """Change some fields of a note, in one step."""
    changes = {**body.model_dump(exclude_unset=True), "updated_at": datetime.now(UTC)}
    query = Note.find_one(Note.id == id, Note.owner == account)
    update = {"$set": changes, "$inc": {"revision": 1}}
    return found(await query.update(update, response_type=UpdateResponse.NEW_DOCUMENT))


@app.post("/refresh")
async def refresh(body: RefreshToken) -> Tokens:
    """Return new tokens for a refresh token."""
    try:
        claims = jwt.decode(body.refresh_token, SECRET, algorithms=["HS256"], audience="refresh")
    except jwt.PyJWTError:
        raise HTTPException(401, "not authenticated") from None
    now = datetime.now(UTC)
    common = {"sub": claims["sub"], "iat": now}
    return Tokens(
        access_token=jwt.encode({**common, "exp": now + timedelta(minutes=5)}, SECRET, "HS256"),
        refresh_token=jwt.encode({**common, "exp": now + timedelta(days=1), "aud": "refresh"}, SECRET, "HS256"),
    )
