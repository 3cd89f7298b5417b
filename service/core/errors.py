"""Every error a client can meet, as a plain exception with its status and code (RFC 9457)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Cause:
    """One of several reasons for a problem, with the place in the request that it is about.

    `pointer` is an RFC 6901 JSON pointer into the body, `parameter` the name of a query parameter.
    """

    code: str
    detail: str
    pointer: str | None = None
    parameter: str | None = None

    def as_dict(self) -> dict[str, str]:
        """Return the cause as it stands in a problem document."""
        place = {"pointer": self.pointer, "parameter": self.parameter}
        return {
            **{name: value for name, value in place.items() if value is not None},
            "code": self.code,
            "detail": self.detail,
        }


MOST_CAUSES = 100
"""Most causes that a problem document lists: a small body can hold a hundred thousand mistakes."""


def pointer(*steps: str | int) -> str:
    """Return the RFC 6901 pointer that leads along `steps` from the root of a body."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


RXDB = "/v1/sync/rxdb/"
"""Where a problem has a member `error`: the client takes any answer without it for a good one."""


class Problem(Exception):
    """An answer that is an error: what `status` and `code` the client gets, and in `detail` why.

    `retry_after` are the seconds after which to try again, None where that does not help by itself. `keepable` tells
    whether the answer is one about the request, which is kept for its idempotency key; one about the moment is not.
    `extension` has the JSON Schema of each member that an answer may have beyond those of every problem.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    meaning: ClassVar[str] = "A bug on our side. The request id finds the log line; retrying may help."
    retry_after: ClassVar[int | None] = None
    keepable: ClassVar[bool] = True
    extension: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(
        self,
        detail: str | None = None,
        causes: Iterable[Cause] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """Hold the sentence for the client, the first of the causes to list, the headers, and extension members.

        Raises `TypeError` for a member that the class does not declare.
        """
        if undeclared := members.keys() - self.extension.keys():
            raise TypeError(f"{type(self).__name__}.extension does not declare {', '.join(sorted(undeclared))}")
        self.detail = detail or self.title
        self.causes = tuple(islice(causes, MOST_CAUSES))
        self.headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        self.headers |= headers or {}
        self.members = members
        super().__init__(self.detail)

    def as_dict(self, request_id: str, path: str = "") -> dict[str, Any]:
        """Return the problem document of RFC 9457, section 3, as the answer to a request for a path."""
        document: dict[str, Any] = {
            "type": f"/docs/problems#{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.causes:
            document["errors"] = [cause.as_dict() for cause in self.causes]
        if path.startswith(RXDB):
            document["error"] = True
        return {**document, **self.members}


class InternalError(Problem):
    """A bug; logged with its traceback."""

    keepable = False


class Unreadable(Problem):
    """Other software has stored a value, of a `kind` and at a `place` in a record, that is none of its field."""

    code, title = "unreadable", "Unreadable"
    keepable = False
    meaning = (
        "Other software has stored in this record what is no value of its field; `errors` names the place. Lists leave "
        "the record out. Repeating does not help: somebody has to mend what is stored."
    )

    def __init__(self, kind: str, place: tuple[str | int, ...]) -> None:
        """Name the place."""
        self.kind, self.place = kind, place
        cause = Cause("unreadable", "a stored value of the type of its field", pointer=pointer(*place))
        super().__init__("what is stored at one place of the record is no value of its field", [cause])


class BadRequest(Problem):
    """HTTP itself was not kept to."""

    status, code, title = 400, "bad_request", "Bad request"
    meaning = "The request does not follow HTTP: a header or the request line cannot be read."


class MalformedJson(Problem):
    """The body cannot be read as the JSON that is due."""

    status, code, title = 400, "malformed_json", "Malformed JSON"
    meaning = "The body is not JSON in UTF-8, or not an object where one is due."


class BadParameter(Problem):
    """A query parameter is unknown or has a value that it cannot have."""

    status, code, title = 400, "bad_parameter", "Bad parameter"
    meaning = "A query parameter is unknown, stands twice, or has a value that it cannot have. `errors` names it."


class BadQuery(Problem):
    """`where` is not understood."""

    status, code, title = 400, "bad_query", "Bad query"
    meaning = "`where` is not JSON, names a field that cannot be filtered, or uses an operator wrongly."


class TooExpensive(Problem):
    """What MongoDB cannot answer in the time that a request may take, or what is more than one answer holds."""

    status, code, title = 400, "too_expensive", "Too expensive"
    keepable = False
    meaning = (
        "What was asked takes MongoDB longer than one request, or one batch, may, or is more than one answer holds. "
        "Asking again costs the same: ask for less, with fewer conditions, without `count`, or by a field that a sort "
        "of the type begins with; `detail` says what."
    )

    def __init__(self, detail: str | None = None) -> None:
        """Say what to do, if nothing better is known."""
        super().__init__(detail or "the query takes MongoDB too long; ask for less, or without `count`")


class NotAuthenticated(Problem):
    """No token, or one that is not good."""

    status, code, title = 401, "not_authenticated", "Not authenticated"
    keepable = False
    meaning = "There is no access token, or it is not valid, or its session has ended. Log in again."

    def __init__(self, detail: str | None = None, offered: bool = True, **members: Any) -> None:
        """Add the challenge that RFC 6750, section 3, asks for; it names no error where no token was `offered`."""
        error = ', error="invalid_token"' if offered and self.code != "bad_credentials" else ""
        super().__init__(detail, headers={"WWW-Authenticate": f'Bearer realm="madang"{error}'}, **members)


class TokenExpired(NotAuthenticated):
    """The access token was good once."""

    code, title = "token_expired", "Token expired"
    meaning = "The access token is past its `exp`. Use the refresh token to get a new one."


class BadCredentials(NotAuthenticated):
    """Name or password is wrong; which of them is not told."""

    code, title = "bad_credentials", "Bad credentials"
    keepable = True
    meaning = "The username or the password is wrong, or the ID token of a provider is not good."


class SecondFactorRequired(NotAuthenticated):
    """What was given is right, and the account asks for one thing more."""

    code, title = "second_factor_required", "Second factor required"
    meaning = (
        "The account asks for a second factor. Send `challenge` to `POST /auth/second-factor` within five minutes, "
        "with a code of the authenticator app or a recovery code."
    )
    extension = {"challenge": {"type": "string", "description": "what a second factor is given for"}}


class TokenReused(NotAuthenticated):
    """A refresh token came again after its successor was in use."""

    code, title = "token_reused", "Token reused"
    meaning = (
        "The refresh token was spent before, so it may have been stolen. The whole session has ended; log in again."
    )


class Forbidden(Problem):
    """This identity may see the thing but not do that to it."""

    status, code, title = 403, "forbidden", "Forbidden"
    meaning = "You may read this, but not do that to it."


class ReauthenticationRequired(Problem):
    """The password was given too long ago for what is asked."""

    status, code, title = 403, "reauthentication_required", "Reauthentication required"
    keepable = False  # it is repeated with its key after the login
    meaning = "This needs a login of the last five minutes. Log in again and repeat the request."


class NotFound(Problem):
    """No such thing, or none that this identity may read: the two look the same."""

    status, code, title = 404, "not_found", "Not found"
    meaning = "There is no such thing, or none that you may read."


class MethodNotAllowed(Problem):
    """The path is there, the method is not."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"
    meaning = "The path exists but not with this method. `Allow` lists those that it has."


class RequestTimeout(Problem):
    """The body did not come in time."""

    status, code, title = 408, "request_timeout", "Request timeout"
    retry_after, keepable = 1, False
    meaning = "The body took too long, or the connection broke before its end. Send the request again."

    def __init__(self) -> None:
        """Ask for another connection."""
        super().__init__(headers={"Connection": "close"})


class AlreadyExists(Problem):
    """An id, a username or a unique value is taken."""

    status, code, title = 409, "already_exists", "Already exists"
    meaning = "The id, the username, or a value that has to be unique is taken. `errors` names the field."


class AccountExists(Problem):
    """A provider knows somebody by an address that an account has which is not linked to them."""

    status, code, title = 409, "account_exists", "Account exists"
    keepable = False
    meaning = (
        "An account has the address that the provider has verified, and nobody gets into it by an address alone. Sign "
        "in to that account as before, then link the identity: `POST /v1/accounts/me/identities`."
    )


class LastWayIn(Problem):
    """Without it nobody could enter the account."""

    status, code, title = 409, "last_way_in", "Last way in"
    keepable = False
    meaning = "Without this nobody could enter the account any more. Set a password or link another identity first."


class StillReferenced(Problem):
    """A delete rule keeps the record."""

    status, code, title = 409, "still_referenced", "Still referenced"
    meaning = (
        "Other records refer to this one: their type does not let it go, or they are more than are changed at once. "
        "Delete or change them first."
    )


class LastManager(Problem):
    """A group would have members and nobody who manages it."""

    status, code, title = 409, "last_manager", "Last manager"
    meaning = "A group with members has a manager. Make another member a manager first, or delete the group."


class LimitReached(Problem):
    """There are as many as there may be."""

    status, code, title = 409, "limit_reached", "Limit reached"
    meaning = "There are as many of these as there may be; `detail` tells the limit. Remove one first."


class SyncConflict(Problem):
    """A push is about records that others have changed meanwhile."""

    status, code, title = 409, "sync_conflict", "Sync conflict"
    keepable = False
    meaning = (
        "Records of this push have changed since `last_pulled_at`, so nothing of it was done; `errors` names them. "
        "Pull, and push what is left."
    )


class OffsetMismatch(Problem):
    """Bytes of an upload are not those that come next."""

    status, code, title = 409, "offset_mismatch", "Offset mismatch"
    keepable = False
    meaning = "Other bytes come next. Ask by `HEAD` how many are stored, and go on there."


class ReferencePending(Problem):
    """A push refers to what has not come yet."""

    status, code, title = 409, "reference_pending", "Reference pending"
    retry_after, keepable = 5, False
    meaning = (
        "Records of this push refer to others that have not come yet; nothing of it was done. Send it again after "
        "`Retry-After` seconds, when the others are there."
    )


class CursorExpired(Problem):
    """A cursor of changes is older than the tombstones."""

    status, code, title = 410, "cursor_expired", "Cursor expired"
    keepable = False
    meaning = (
        "The cursor is older than what the service remembers of deletions. Begin without one, and drop what does not "
        "come again."
    )


class RevisionMismatch(Problem):
    """`If-Match` or `If-None-Match` does not hold."""

    status, code, title = 412, "revision_mismatch", "Revision mismatch"
    meaning = "Somebody changed the record since you read it. Get it again, merge, and repeat with its new `ETag`."


class TooLarge(Problem):
    """The body is larger than the service takes."""

    status, code, title = 413, "too_large", "Too large"
    meaning = "The body is larger than the service takes (1 MiB by default), or the answers of a batch than it gives."


class UploadVersion(Problem):
    """A client speaks another version of tus."""

    status, code, title = 412, "upload_version", "Upload version"
    meaning = "Uploads speak tus 1.0.0, which each request names in `Tus-Resumable`."


class QuotaExceeded(Problem):
    """The files of an account would take more than it may have."""

    status, code, title = 413, "quota_exceeded", "Quota exceeded"
    keepable = False
    meaning = "Your files would take more bytes than an account may have. Delete some of them, then send it again."


class UnsupportedMediaType(Problem):
    """The body is not JSON by its Content-Type."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"
    meaning = "The body has to be JSON, sent with `Content-Type: application/json`."


class RangeNotSatisfiable(Problem):
    """None of the ranges that are asked for is in the content."""

    status, code, title = 416, "range_not_satisfiable", "Range not satisfiable"
    meaning = "The file is shorter than where the range begins. `Content-Range` tells how many bytes it has."


class ValidationFailed(Problem):
    """The body is JSON but breaks the rules of the fields."""

    status, code, title = 422, "validation_failed", "Validation failed"
    meaning = "The body is well-formed but wrong. `errors` lists each place, with its code and what would be right."

    def __init__(self, causes: Iterable[Cause]) -> None:
        """Count the causes into the detail, as far as they are listed."""
        causes = tuple(islice(causes, MOST_CAUSES))
        count = f"{MOST_CAUSES} or more" if len(causes) == MOST_CAUSES else str(len(causes))
        super().__init__("1 field is not valid" if count == "1" else f"{count} fields are not valid", causes)


class RequestInProgress(Problem):
    """Another request with the same idempotency key is running."""

    status, code, title = 409, "request_in_progress", "Request in progress"
    retry_after, keepable = 1, False
    meaning = "An earlier request with this idempotency key is still running. Retry after `Retry-After` seconds."


class BadImage(Problem):
    """A file is no image that can be made smaller."""

    status, code, title = 422, "bad_image", "Bad image"
    meaning = (
        "The file is no image of a format that is read, is broken, or has more pixels than are decoded. Its owner can "
        "download it as it is all the same."
    )


class IdempotencyMismatch(Problem):
    """The idempotency key was used for another request."""

    status, code, title = 422, "idempotency_mismatch", "Idempotency mismatch"
    meaning = "This idempotency key came with another request before. Make a new key for each new request."


class UploadLocked(Problem):
    """Somebody else writes to an upload."""

    status, code, title = 423, "upload_locked", "Upload locked"
    keepable = False
    meaning = "Another connection writes to this upload, or has broken off a moment ago. Try again in some seconds."


class FailedDependency(Problem):
    """Another request of the same batch failed."""

    status, code, title = 424, "failed_dependency", "Failed dependency"
    meaning = "Another request of this batch failed, so this one was undone or not tried."


class UpgradeRequired(Problem):
    """The app is of a version that is not served any more."""

    status, code, title = 426, "upgrade_required", "Upgrade required"
    keepable = False
    meaning = "The app has records in a form that the service no longer speaks. Its user has to install a newer one."


class TooManyRequests(Problem):
    """A limit on how often is reached."""

    status, code, title = 429, "too_many_requests", "Too many requests"
    retry_after, keepable = 1, False
    meaning = "You did this too often. Wait for `Retry-After` seconds."

    def __init__(self, detail: str | None = None, retry_after: int = 1) -> None:
        """Tell in whole seconds when the next try may succeed."""
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class ChecksumMismatch(Problem):
    """The bytes of a part are not those that were sent."""

    status, code, title = 460, "checksum_mismatch", "Checksum mismatch"
    keepable = False
    meaning = "What has come is not what was sent, and nothing of it was kept. Send it again."


class NotSupported(Problem):
    """The database in use has no such feature: mongomock."""

    status, code, title = 501, "not_supported", "Not supported"
    keepable = False
    meaning = "The service runs without a real MongoDB (`--memory`), or without the streams, which this needs."


class DatabaseUnavailable(Problem):
    """MongoDB did not answer in time."""

    status, code, title = 503, "database_unavailable", "Database unavailable"
    retry_after, keepable = 1, False
    meaning = "MongoDB did not answer in time. Retry after `Retry-After` seconds, with the same idempotency key."


class StorageUnavailable(Problem):
    """Where the bytes of files are did not answer as it should."""

    status, code, title = 503, "storage_unavailable", "Storage unavailable"
    retry_after, keepable = 5, False
    meaning = "Where the bytes of files are did not answer as it should. Retry after `Retry-After` seconds."


class ProviderUnavailable(Problem):
    """An OpenID provider's keys are not known here and do not come."""

    status, code, title = 503, "provider_unavailable", "Provider unavailable"
    retry_after, keepable = 2, False
    meaning = (
        "The provider that the token is from did not answer in time, so nobody can tell whether the token is good. "
        "Send it again after `Retry-After` seconds."
    )


class FeedUnavailable(Problem):
    """The order of changes has not come to this moment."""

    status, code, title = 503, "feed_unavailable", "Feed unavailable"
    retry_after, keepable = 1, False
    meaning = (
        "The order of changes has not come to the moment of the request: its worker is being started, or has much to "
        "do. Retry after `Retry-After` seconds."
    )


class Overloaded(Problem):
    """There are more requests than this server can work on."""

    status, code, title = 503, "overloaded", "Overloaded"
    retry_after, keepable = 1, False
    meaning = (
        "The server has more requests than it can work on; this one was not begun. Retry after `Retry-After` seconds."
    )


class Unavailable(Problem):
    """The program that answers such requests is not there: it is being started."""

    status, code, title = 503, "unavailable", "Unavailable"
    retry_after, keepable = 1, False
    meaning = (
        "The part of the service that answers this is being started; the request was not begun. Retry after "
        "`Retry-After` seconds."
    )


class AnswerLost(Problem):
    """The program that worked on the request ended before it had answered."""

    status, code, title = 502, "answer_lost", "Answer lost"
    keepable = False
    meaning = (
        "What worked on the request ended before it answered, and nobody knows whether the request was done. Send it "
        "again with the same idempotency key."
    )


class NotReady(Problem):
    """A program of the service cannot do its work."""

    status, code, title = 503, "not_ready", "Not ready"
    retry_after, keepable = 1, False
    meaning = "A part of the service cannot do its work; `parts` says which. A load balancer turns to another server."
    extension = {"parts": {"type": "object", "additionalProperties": {"type": "string"}}}


class ShuttingDown(Problem):
    """The server is about to end."""

    status, code, title = 503, "shutting_down", "Shutting down"
    retry_after, keepable = 1, False
    meaning = "This server is about to end. A load balancer that asks `/health/ready` turns to another."


def all_problems(root: type[Problem] = Problem) -> list[type[Problem]]:
    """Return every class of problem, those of lower status first."""
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update({problem.code: problem for problem in all_problems(child)})
    return sorted(found.values(), key=lambda problem: (problem.status, problem.code))
