"""Every setting once: its default and, in one line, what it is for."""

from datetime import timedelta
from typing import Annotated, Any

from settings.limits import (
    ADDRESSES,
    CONTACT,
    FOLDER,
    HOSTS,
    LEVEL,
    LINK,
    NAME,
    PATH,
    RATE,
    REDIRECT,
    SIZES,
    STORE,
    URL,
    WORD,
    Between,
)

HOUR, DAY, YEAR = 3600, 86_400, 31_536_000


class Base:
    """What holds in every environment unless its class says otherwise.

    A duration is a number of seconds or a `timedelta`.
    The text under a setting is its documentation: `docs/settings.md` is made of it.
    """

    ENVIRONMENT: str = "base"
    """Name of the settings class in use."""
    TESTING: bool = False
    """Flask's own switch for tests."""

    REQUIRED: list[str] = []
    """Settings without which the service refuses to start."""
    MINIMAL_KEY_BYTES: Annotated[int, Between(0, 1024)] = 0
    """Least length of a signing key."""

    MONGODB_URI: str | None = None
    """Where MongoDB is, with the name of the database in its path. Without one, `local` starts a server of its own."""
    MONGODB_TIMEOUT: Annotated[float, Between(0.1, 600)] = 5.0
    """Seconds that the database operations of one request, or of one batch, may take together, retries included."""
    MONGODB_CONNECT_TIMEOUT: Annotated[float, Between(0.1, 600)] = 2.0
    """Seconds to wait for a connection to a member of MongoDB, and for its answer to `/health/ready`."""
    MONGODB_POOL_SIZE: Annotated[int, Between(1, 10_000)] = 64
    """Most connections to MongoDB that one worker process opens."""
    CREATE_INDEXES: bool = True
    """Make missing indexes at start; off where a person runs `flask indexes make` at a quiet hour."""
    ADMISSION_WAIT: Annotated[float, Between(0, 60)] = 1.0
    """Seconds that a request may wait until one of those at work has ended, before the answer is 503 `overloaded`."""
    CLIENT_TIMEOUT: Annotated[float, Between(0.1, HOUR)] = 20.0
    """Seconds that a client may take to send a body, or to take the next piece of a streamed answer; Linux only."""
    IDLE_TIMEOUT: Annotated[float, Between(0.1, DAY)] = 75.0
    """Seconds that a connection may be idle or take to send headers; longer than the proxy in front keeps it."""
    MAX_CONNECTIONS: Annotated[int, Between(1, 1_000_000)] = 16384
    """Most open connections of one worker process, within the limit of open files; others wait in the kernel."""
    JOB_THREADS: Annotated[int, Between(0, 64)] = 2
    """Jobs that one worker does at once; with 0 it leaves them to other workers."""
    STREAMS_THREADS: Annotated[int, Between(1, 256)] = 8
    """Requests that one process of the streams asks MongoDB for at once; others have their turn."""
    LIVE_CONNECTIONS: Annotated[int, Between(1, 1_000_000)] = 12_000
    """Most clients that wait in one process of the streams, for changes or for live events; one beyond is 503."""
    LIVE_CONNECTIONS_ACCOUNT: Annotated[int, Between(1, 1_000_000)] = 10
    """Most of them of one account, live connections and waiting pulls each; one beyond is 429."""
    LIVE_SUBSCRIPTIONS: Annotated[int, Between(1, 10_000)] = 20
    """Most record types that one live connection follows; more are 429."""
    FILES_URL: Annotated[str, STORE] = ""
    """Where the bytes of files are, if not in MongoDB: a bucket of S3 or of what speaks it. See `docs/files.md`."""
    FILES_SIZES: Annotated[list[str], SIZES] = ["thumb 200x200 cover", "screen 1600 contain"]
    """Smaller images that there are of one: a name, a box in pixels, and whether it is filled or holds all."""
    FILES_PIXELS: Annotated[int, Between(1, 1_000_000_000)] = 100_000_000
    """Most pixels of an image of which a smaller one is made; a process may take 16 bytes of memory for each."""
    FILES_DECODERS: Annotated[int, Between(1, 64)] = 2
    """Images that one process of the streams has decoded at once, each in a process of its own; others wait."""
    FILES_IMAGE_SECONDS: Annotated[int, Between(1, 600)] = 20
    """Seconds of a processor that one image may take, and twice as many by the clock."""
    DRAIN_DELAY: Annotated[float, Between(0, HOUR)] = 0.0
    """Seconds between the signal to end, from when `/health/ready` is 503, and the end of listening."""
    VAR: Annotated[str, FOLDER] = "var"
    """Folder, from the project's own on, of what the service writes itself: local data, local secret, metrics."""

    SECRET_KEY: str | None = None
    """Secret of this installation, at least 32 bytes; keys for other uses are derived from it."""
    JWT_SECRET_KEY: str | list[str] | None = None
    """Key that signs access tokens, a secret or a PEM; of a list the first signs, all verify. Else `SECRET_KEY`."""
    JWT_AUTH_URL_RULE: Annotated[str, PATH] = "/auth"
    """Route where tokens are issued; its sub-routes follow it."""
    JWT_AUTH_USERNAME_KEY: Annotated[str, NAME] = "username"
    """Name of the field of the login body that holds the username."""
    JWT_AUTH_PASSWORD_KEY: Annotated[str, NAME] = "password"  # noqa: S105  the name of a field
    """Name of the field of the login body that holds the password."""
    JWT_AUTH_HEADER_PREFIX: Annotated[str, WORD] = "JWT"
    """Scheme accepted in `Authorization` beside `Bearer`, without regard to case."""
    JWT_ALGORITHM: str = "HS256"
    """Algorithm that signs, and the only one accepted when verifying: HS256, HS384, HS512, ES256 or EdDSA."""
    JWT_LEEWAY: Annotated[float | timedelta, Between(0, HOUR)] = 10
    """Clock skew forgiven when `exp`, `nbf` and `iat` are checked."""
    JWT_EXPIRATION_DELTA: Annotated[float | timedelta, Between(1, YEAR)] = 300
    """Life of an access token."""
    JWT_NOT_BEFORE_DELTA: Annotated[float | timedelta, Between(0, YEAR)] = 0
    """How long after its issue an access token becomes valid."""
    JWT_VERIFY_CLAIMS: list[str] = ["signature", "exp", "nbf", "iat"]
    """Claims whose value is checked; `signature` cannot be left out."""
    JWT_REQUIRED_CLAIMS: list[str] = ["exp", "iat", "nbf"]
    """Claims that a token must have."""
    JWT_REFRESH_EXPIRATION_DELTA: Annotated[float | timedelta, Between(1, 10 * YEAR)] = 30 * 24 * 3600
    """Life of a session that nobody uses."""
    JWT_REFRESH_GRACE: Annotated[float | timedelta, Between(0, 10 * YEAR)] = 30 * 24 * 3600
    """How long a spent refresh token still answers with its own successor, as long as that one is unused."""

    PASSWORD_HASHING_LIMIT: Annotated[int, Between(1, 256)] = 8
    """Most password hashes that wait or run at once in a worker, at most half of its threads; a login beyond is 429."""

    PROVIDERS: dict[str, Any] = {}
    """OpenID providers that people may sign in with, by name: see `docs/providers.md`."""
    PROVIDER_REDIRECTS: Annotated[list[str], REDIRECT] = []
    """Links by which a sign-in in a browser may lead back into an app, to the letter; see `docs/providers.md`."""

    WEBAUTHN_RP_ID: str | None = None
    """Domain that passkeys are for; without it there are none."""
    WEBAUTHN_ORIGINS: list[str] = []
    """Where passkeys may be used: origins of pages, and of Android apps as `android:apk-key-hash:…`."""

    RATELIMIT_ENABLED: bool = True
    """Whether failed logins, sign-ups, password changes, mails and the time of lists are counted and limited."""
    RATELIMIT_FAILED_LOGINS: Annotated[str, RATE] = "10 per 5 minutes"
    """Failed logins of one account from one address."""
    RATELIMIT_FAILED_LOGINS_ADDRESS: Annotated[str, RATE] = "60 per 5 minutes"
    """Failed logins of any account from one address."""
    RATELIMIT_FAILED_LOGINS_ACCOUNT: Annotated[str, RATE] = "100 per hour"
    """Failed logins of one account from anywhere; beyond it an address that failed once has to wait."""
    RATELIMIT_SIGN_UPS: Annotated[str, RATE] = "100 per hour"
    """Sign-ups from one address."""
    RATELIMIT_PASSWORD_CHANGES: Annotated[str, RATE] = "20 per hour"  # noqa: S105  a rate
    """Tries of one account to change its password."""
    RATELIMIT_CODES: Annotated[str, RATE] = "60 per hour"
    """Codes that one address of the network may have sent, to whatever mail addresses."""
    RATELIMIT_CODES_ADDRESS: Annotated[str, RATE] = "8 per hour"
    """Codes that are sent to one mail address, whoever asks for them; fewer than the mails that it may get."""
    RATELIMIT_SECOND_FACTOR: Annotated[str, RATE] = "30 per day"
    """Codes given as the second factor of one account, right or wrong; who gives one has the password."""
    RATELIMIT_ACCOUNT_LOOKUPS: Annotated[str, RATE] = "60 per hour"
    """How often an account may ask who has a username."""
    RATELIMIT_INVITATIONS: Annotated[str, RATE] = "60 per hour"
    """Invitations to groups that an account may make, and as many from one address of the network."""
    RATELIMIT_PUSH_REGISTRATIONS: Annotated[str, RATE] = "120 per hour"
    """How often the devices of an account may register for notifications."""
    RATELIMIT_ADMIN_PUSHES: Annotated[str, RATE] = "60 per minute"
    """Notifications that an admin may send to many."""
    RATELIMIT_LIST_SECONDS: Annotated[float, Between(0.1, 100_000)] = 30.0
    """Seconds in a minute that lists, exports, pulls and live events of an account may take in a process; else 429."""

    RATELIMIT_MAILS_ADDRESS: Annotated[str, RATE] = "10 per hour"
    """Mails to one mailbox; codes, notices and invitations are counted apart, and one beyond is not sent."""
    RATELIMIT_MAILS: Annotated[str, RATE] = "2000 per hour"
    """Mails in all, likewise."""

    APP_NAME: Annotated[str, NAME] = "Madang"
    """Name of the app, in mails and in authenticator apps."""
    MAIL_URL: str | None = None
    """Server that takes mail: `smtp://user:password@host:587` or `smtps://…`; in `local` without one, `var/mail/`."""
    MAIL_FROM: str | None = None
    """Address from which mail comes: `mail@example.com` or `Madang <mail@example.com>`."""
    MAIL_TIMEOUT: Annotated[float, Between(0.1, 60)] = 10.0
    """Seconds that the mail server may take for one answer; for one mail it has four times as long."""
    MAIL_TEMPLATES: str | None = None
    """Folder with templates of your own, which come before those of the same name that ship: see `docs/mail.md`."""

    APNS_KEY_FILE: str | None = None
    """File of the key for APNs, `AuthKey_….p8` of Apple: see `docs/push.md`."""
    APNS_KEY_ID: str | None = None
    """Id of that key, ten characters."""
    APNS_TEAM_ID: str | None = None
    """Id of the team at Apple, ten characters."""
    APNS_TOPIC: str | None = None
    """Bundle id of the app, such as `com.example.notes`."""
    APNS_URL: Annotated[str, URL] = "https://api.push.apple.com"
    """Where APNs is; `https://api.sandbox.push.apple.com` for apps that Xcode has installed."""
    FCM_CREDENTIALS_FILE: str | None = None
    """File of a service account that may send by FCM, as JSON."""
    FCM_URL: Annotated[str, URL] = "https://fcm.googleapis.com"
    """Where FCM is."""
    VAPID_KEY_FILE: str | None = None
    """File of the key by which push services of browsers know us, a PEM with a private key of P-256."""
    VAPID_SUBJECT: Annotated[str, CONTACT] = ""
    """Where their operators reach you: `mailto:push@example.com`, or a page by `https://…`."""

    WEBHOOK_ALLOW: Annotated[list[str], HOSTS] = []
    """Hosts and networks of your own that may be called, by HTTP too; else those of the open internet, by HTTPS."""

    KEPT_ANSWERS_ACCOUNT_BYTES: Annotated[int, Between(0, 2**50)] = 64 * 1024 * 1024
    """Most bytes of answers that are kept for the retries of one account; a write with a key beyond them is 429."""
    KEPT_ANSWERS_BYTES: Annotated[int, Between(0, 2**50)] = 8 * 1024 * 1024 * 1024
    """Most bytes of answers that are kept for retries in all; a write with a key beyond them is 503."""

    MAX_CONTENT_LENGTH: Annotated[int, Between(1, 2**30)] = 1024 * 1024
    """Most bytes of a request body."""
    MAX_PUSH_LENGTH: Annotated[int, Between(1, 2**30)] = 16 * 1024 * 1024
    """Most bytes of the body of a push of WatermelonDB or RxDB, of which a worker takes two large ones at a time."""
    FILES_DIRECT_BYTES: Annotated[int, Between(1, 2**30)] = 8 * 1024 * 1024
    """Most bytes of a file that is uploaded by one request."""
    FILES_BYTES: Annotated[int, Between(1, 2**50)] = 5 * 1024 * 1024 * 1024
    """Most bytes of a file."""
    FILES_ACCOUNT_BYTES: Annotated[int, Between(0, 2**60)] = 1024 * 1024 * 1024
    """Most bytes that the files of one account may have together; an upload beyond them is 413 `quota_exceeded`."""
    TRUSTED_PROXIES: Annotated[int, Between(0, 100)] = 0
    """Number of proxies in front whose `X-Forwarded-*` headers are believed."""
    BEHIND_DOOR: bool = False
    """Whether every request comes through the door; `run.py` sets it where it starts one, as compose does."""
    DOOR_HOST: str | None = None
    """Host name for which the door gets a certificate by itself, and speaks HTTPS alone: see `docs/processes.md`."""
    DOOR_CERTIFICATE: str | None = None
    """File of the door's certificate, a PEM with the whole chain, instead; it needs `DOOR_CERTIFICATE_KEY` too."""
    DOOR_CERTIFICATE_KEY: str | None = None
    """File of the key of that certificate, a PEM."""
    DOOR_API: Annotated[list[str], ADDRESSES] = []
    """Addresses (`host:port`) of the API for a door that `run.py` starts without one, or prints."""
    DOOR_STREAMS: Annotated[list[str], ADDRESSES] = []
    """Addresses of the streams, likewise."""
    DOOR_WORKER: Annotated[list[str], ADDRESSES] = []
    """Addresses where workers tell of their health, which `/health/ready` of the door asks for, likewise."""
    CORS_ORIGINS: str | list[str] = []
    """Origins whose pages may call the API from a browser; `*` is everyone."""
    TOMBSTONE_DAYS: Annotated[float, Between(0.1, 36_500)] = 30
    """Days that the id of a deleted record stays taken."""
    GUEST_DAYS: Annotated[float, Between(1, 36_500)] = 90
    """Days after which a guest that nobody comes back to is deleted, with all that it owns."""
    INVITATION_DAYS: Annotated[int, Between(1, 365)] = 7
    """Days that an invitation to a group is good."""

    PUBLIC_URL: Annotated[str, URL] = ""
    """Where people reach the service, such as `https://api.example.com`: mails link to it. Needed with mail."""
    APP_LINK: Annotated[str, LINK] = ""
    """Link by which the pages lead back into the app, such as `myapp://signed-in` or `https://app.example.com/`."""
    SIGN_UP_BY_CODE: bool = False
    """Whether somebody who signs in by a code to an address that no account has gets an account."""

    LOG_LEVEL: Annotated[str, LEVEL] = "INFO"
    """Least level of the lines that are logged."""
    JSON_PRETTY: bool = False
    """Whether answers are written for people, with indents and a line break at the end; otherwise without a space."""
    LOG_JSON: bool = True
    """One JSON object per line; otherwise a form for people."""
    LOG_FILE: str | None = None
    """File that gets the log lines as JSON too, rotated by size and safe for several workers."""
    LOG_FILE_BYTES: Annotated[int, Between(1, 2**50)] = 50 * 1024 * 1024
    """Size at which the log file is rotated."""
    LOG_FILE_COUNT: Annotated[int, Between(1, 10_000)] = 5
    """Number of rotated log files that are kept."""
