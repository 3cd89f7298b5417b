"""Mail: by a real server, with what its answers mean, over connections that are secured where they have to be."""

import math
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from service.core.clock import now
from service.core.log import configure_log
from service.documents import OutboxItem
from service.outbox import mail, transports
from service.outbox.composing import MailSender
from service.outbox.dispatch import CannotSend, Dispatcher, Postponed, Refused
from service.outbox.letters import Letter
from service.outbox.mail import MailServer as Named
from service.outbox.mail import read_sender, read_server
from service.outbox.transports import Folder, Smtp, transport_for
from service.worker import chores
from tests.certificates import certified
from tests.dispatching import AS_LONG_AS_IT_TAKES, Deaf, deliver_all, next_item
from tests.mailbox import Mailbox
from tests.smtp_server import Handler, MailServer, authenticator

USER, PASSWORD = "mina", "p@ss:w/rd"


# Settings


@pytest.mark.once
@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("smtp://mail.example.com", Named("mail.example.com", 587, False)),
        ("smtps://mail.example.com", Named("mail.example.com", 465, True)),
        ("smtp://127.0.0.1:2525/", Named("127.0.0.1", 2525, False)),
        ("smtps://me%40example.com:p%2Fw@[::1]:1", Named("::1", 1, True, "me@example.com", "p/w")),
    ],
)
def test_a_url_names_a_server(url: str, server: Named) -> None:
    assert read_server(url) == server


@pytest.mark.once
@pytest.mark.parametrize(
    "url",
    [
        *("", "mail.example.com", "http://mail.example.com", "smtp://", "smtp://u:secret@h:port", "smtp://h:99999"),
        *(
            "smtp://user@mail.example.com",
            "smtp://u:secret@mail.example.com/path",
            "smtp://u:secret@h?tls=no",
            "smtp://[h",
        ),
    ],
)
def test_what_names_no_server_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="MAIL_URL has to be") as error:
        read_server(url)
    assert "secret" not in str(error.value)


@pytest.mark.once
def test_a_password_crosses_no_network_in_the_clear() -> None:
    secret = [
        Named(host, 587, False, "u", "p").must_be_secret for host in ("mail.example.com", "127.0.0.1", "localhost")
    ]
    assert secret == [True, False, False]
    assert not Named("mail.example.com", 25, False).must_be_secret


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail@example.com", "mail@example.com"),
        ("Madang <mail@example.com>", "Madang <mail@example.com>"),
        ("마당 <mail@한국.example.com>", "마당 <mail@xn--3e0b707e.example.com>"),
    ],
)
def test_mail_comes_from_an_address(text: str, shown: str) -> None:
    assert str(read_sender(text)) == shown


@pytest.mark.once
@pytest.mark.parametrize("text", ["", "Madang", "mail@", "마당@example.com", "a@example.com\r\nBcc: b@example.com"])
def test_what_is_no_address_to_come_from_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="MAIL_FROM has to be"):
        read_sender(text)


SOMEWHERE = {"MAIL_URL": "smtp://mail.example.com", "MAIL_FROM": "mail@example.com"}


@pytest.mark.once
@pytest.mark.parametrize(
    ("named", "environment", "available"),
    [
        (SOMEWHERE, "production", True),
        ({}, "local", True),
        ({}, "production", False),
        ({"MAIL_FROM": "mail@example.com"}, "production", False),
    ],
)
def test_mail_can_be_sent_where_a_server_is_named_or_nobody_waits_for_it(
    named: dict[str, str], environment: str, available: bool
) -> None:
    config = {"MAIL_URL": None, "MAIL_FROM": None, "ENVIRONMENT": environment, **named}
    assert mail.is_available(config) == available
    if available:
        mail.require(config, "SIGN_UP_BY_CODE")
    else:
        with pytest.raises(ValueError, match="SIGN_UP_BY_CODE needs mail: set SERVICE_MAIL_URL"):
            mail.require(config, "SIGN_UP_BY_CODE")


def test_a_wrong_setting_of_mail_stops_the_start(make_app: Any) -> None:
    wrong = (
        {"MAIL_URL": "nope"},
        {"MAIL_URL": SOMEWHERE["MAIL_URL"]},
        {"MAIL_FROM": "nope"},
        {"MAIL_TEMPLATES": "nope"},
    )
    for named in wrong:
        with pytest.raises(ValueError, match="MAIL_"):
            make_app(**named)


def test_a_worker_sends_mail_where_mail_can_be_sent(test_settings: dict[str, Any]) -> None:
    assert [sender.kind for sender in chores.senders({**test_settings, **SOMEWHERE})] == ["mail"]
    assert chores.senders({**test_settings, "ENVIRONMENT": "production"}) == []


# A server


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def served() -> Iterator[Callable[..., MailServer]]:
    """A function that starts a mail server."""
    running: list[MailServer] = []

    def start(handler: Handler, **options: Any) -> MailServer:
        running.append(MailServer(handler, **options))
        running[-1].start()
        return running[-1]

    yield start
    for server in running:
        server.stop(no_assert=True)


@pytest.fixture
def closing() -> Iterator[Callable[..., Smtp]]:
    """A function that makes a transport."""
    made: list[Smtp] = []

    def make(server: MailServer, **named: Any) -> Smtp:
        made.append(Smtp(Named(**{"host": server.hostname, "port": server.port, "secure": False, **named}), 3.0))
        return made[-1]

    yield make
    for transport in made:
        transport.leave()


def message(id: str = "a") -> EmailMessage:
    made = EmailMessage()
    made["Subject"], made["Message-ID"] = "Hello", f"<{id}@example.com>"
    made.set_content("Hello.\n")
    return made


def send(transport: Smtp, id: str = "a", to: str = "mina@example.org") -> None:
    transport.deliver(message(id), "mail@example.com", to, math.inf)


Served, Closing = Callable[..., MailServer], Callable[..., Smtp]


@pytest.mark.once
def test_one_connection_carries_several_messages(handler: Handler, served: Served, closing: Closing) -> None:
    transport = closing(served(handler))
    for id in "abc":
        send(transport, id)
    assert handler.ids() == ["<a@example.com>", "<b@example.com>", "<c@example.com>"]
    assert len(handler.sessions) == 1


@pytest.mark.once
def test_a_connection_is_not_used_for_ever(
    handler: Handler, served: Served, closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "MOST_MESSAGES", 2)
    transport = closing(served(handler))
    connections = set()
    for id in "abc":
        send(transport, id)
        connections.add(transport.open)
    assert len(connections) == 2


@pytest.mark.once
def test_a_connection_without_use_is_closed(
    handler: Handler, served: Served, closing: Closing, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = closing(served(handler))
    send(transport)
    transport.rest()
    assert transport.open is not None
    monkeypatch.setattr(transports, "IDLE", 0.0)
    transport.rest()
    assert transport.open is None


@pytest.mark.once
def test_a_connection_that_the_server_has_closed_is_opened_anew(
    handler: Handler, served: Served, closing: Closing
) -> None:
    transport = closing(served(handler))
    send(transport, "a")
    assert transport.open is not None
    assert transport.open.sock is not None
    transport.open.sock.shutdown(socket.SHUT_RDWR)
    send(transport, "b")
    assert handler.ids() == ["<a@example.com>", "<b@example.com>"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("answers", "raised", "told"),
    [
        ({"recipient": "550 5.1.1 no such mailbox"}, Refused, "550 5.1.1 no such mailbox"),
        ({"recipient": "450 4.2.1 busy"}, Postponed, "450 4.2.1 busy"),
        ({"data": ["554 5.7.1 looks like spam"]}, Refused, "554 5.7.1 looks like spam"),
        ({"data": ["451 4.3.0 later"]}, Postponed, "451 4.3.0 later"),
        ({"data": ["421 4.3.2 going down"]}, CannotSend, "421 4.3.2 going down"),
        ({"sender": "550 5.7.1 not yours"}, CannotSend, "MAIL_FROM: 550 5.7.1 not yours"),
    ],
)
def test_what_an_answer_means(
    served: Served, closing: Closing, answers: dict[str, Any], raised: type[Exception], told: str
) -> None:
    handler = Handler(**answers)
    transport = closing(served(handler))
    with pytest.raises(raised, match=told):
        send(transport)
    assert handler.taken == []
    handler.recipient = handler.sender = None
    send(transport, "b")
    assert handler.ids() == ["<b@example.com>"]


@pytest.mark.once
def test_a_server_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        transport = Smtp(Named("127.0.0.1", free.getsockname()[1], False), 1.0)
        with pytest.raises(CannotSend, match="ConnectionRefusedError"):
            send(transport)


class Slow:
    """A server that greets, and then says one character of an answer at a time; or nothing at all."""

    def __init__(self, greeting: bytes, pause: float) -> None:
        self.greeting, self.pause = greeting, pause
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.sendall(self.greeting)
            while not self.ended.wait(self.pause):
                try:
                    connection.sendall(b"2")
                except OSError:
                    return

    def end(self) -> None:
        self.ended.set()
        self.thread.join()
        self.listener.close()


@pytest.mark.once
@pytest.mark.parametrize("pause", [0.05, 30.0], ids=["dribbles", "is silent"])
def test_a_server_that_takes_its_time_is_left(pause: float) -> None:
    server = Slow(b"220 mx.example.com\r\n", pause)
    try:
        began = time.monotonic()
        with pytest.raises((CannotSend, Postponed)):
            send(Smtp(Named("127.0.0.1", server.port, False), 0.3))
        assert time.monotonic() - began < 4
    finally:
        server.end()


# Secured


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """What a server of a certificate needs that this machine trusts."""
    context, file = certified(tmp_path, "localhost", "127.0.0.1", "127.0.0.2")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return context


@pytest.mark.once
@pytest.mark.parametrize("secure", [False, True], ids=["STARTTLS", "TLS"])
def test_a_connection_is_secured_and_signed_in(
    handler: Handler, served: Served, closing: Closing, trusted: ssl.SSLContext, secure: bool
) -> None:
    # Of TLS from the start it knows nothing: neither for its rule that passwords need TLS, nor to tell us.
    rule = {"auth_require_tls": False} if secure else {"auth_required": True}
    checked = authenticator(USER, PASSWORD)
    server = served(handler, tls=trusted, secure=secure, host="127.0.0.2", authenticator=checked, **rule)
    send(closing(server, secure=secure, user=USER, password=PASSWORD))
    assert handler.secured == [not secure]
    with pytest.raises(CannotSend, match="535") as error:
        send(closing(server, secure=secure, user=USER, password="wrong-one"))
    assert "wrong-one" not in str(error.value)


@pytest.mark.once
@pytest.mark.parametrize("secure", [False, True], ids=["STARTTLS", "TLS"])
def test_a_server_that_nobody_vouches_for_gets_nothing(
    handler: Handler, served: Served, closing: Closing, tmp_path: Path, secure: bool
) -> None:
    context, _ = certified(tmp_path, "127.0.0.1")
    with pytest.raises(CannotSend, match="CERTIFICATE_VERIFY_FAILED"):
        send(closing(served(handler, tls=context, secure=secure), secure=secure))
    assert handler.taken == []


@pytest.mark.once
def test_a_password_is_not_said_where_a_network_may_listen(handler: Handler, served: Served, closing: Closing) -> None:
    server = served(handler, host="127.0.0.2", auth_require_tls=False, authenticator=authenticator(USER, PASSWORD))
    with pytest.raises(CannotSend, match="offers no STARTTLS"):
        send(closing(server, user=USER, password=PASSWORD))
    send(closing(server))
    assert len(handler.taken) == 1


# Addresses of all people


def test_an_address_in_any_script_gets_its_mail(app: Flask, handler: Handler, served: Served) -> None:
    config = {**app.config, "MAIL_URL": f"smtp://127.0.0.1:{served(handler).port}", "MAIL_FROM": "mail@example.com"}
    deliver(app, config, "미나@한국.example.com", "mina@한국.example.com")
    (one, first), (two, second) = sorted(handler.taken, key=lambda taken: taken[0], reverse=True)
    assert (one, first["To"]) == (["미나@xn--3e0b707e.example.com"], "미나@xn--3e0b707e.example.com")
    assert (two, second["To"]) == (["mina@xn--3e0b707e.example.com"], "mina@xn--3e0b707e.example.com")


def test_an_address_that_a_server_cannot_take_fails_with_the_reason(
    app: Flask, handler: Handler, served: Served
) -> None:
    server = served(handler, enable_SMTPUTF8=False)
    config = {**app.config, "MAIL_URL": f"smtp://127.0.0.1:{server.port}", "MAIL_FROM": "mail@example.com"}
    deliver(app, config, "미나@example.com")
    assert "RFC 6531" in OutboxItem._get_collection().find_one({"state": "failed"})["reason"]


def deliver(app: Flask, config: dict[str, Any], *addresses: str, **given: Any) -> None:
    """Send a letter to each address as these settings say."""
    security = app.extensions["madang.security"]
    for to in addresses:
        security.letters.post(Letter(to, "sign_in_code", values={"code": "K7QM-2XWD", "minutes": 15}, **given))
    sender = MailSender(config, security.keys.each("outbox"))
    worker = Dispatcher(sender, Deaf())
    deliver_all(worker)
    if isinstance(sender.transport, Smtp):
        sender.transport.leave()


# What a mail is


def test_a_mail_has_both_forms_and_the_headers_that_it_needs(app: Flask, handler: Handler, served: Served) -> None:
    config = {
        **app.config,
        "MAIL_URL": f"smtp://127.0.0.1:{served(handler).port}",
        "MAIL_FROM": "Madang <mail@example.com>",
    }
    deliver(app, config, "mina@example.org", language="ko")
    ((recipients, found),) = handler.taken
    assert recipients == ["mina@example.org"]
    item = OutboxItem._get_collection().find_one({})
    assert {name: str(found[name]) for name in ("From", "To", "Subject", "Message-ID", "Auto-Submitted")} == {
        "From": "Madang <mail@example.com>",
        "To": "mina@example.org",
        "Subject": "Madang 로그인 코드",
        "Message-ID": f"<{item['_id']}@example.com>",
        "Auto-Submitted": "auto-generated",
    }
    assert abs((found["Date"].datetime.replace(tzinfo=None) - now()).total_seconds()) < 60
    assert found.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in found.iter_parts()] == ["text/plain", "text/html"]
    assert all("K7QM-2XWD" in part.get_content() for part in found.iter_parts())


def test_a_mail_that_is_tried_again_has_the_same_id_and_date(app: Flask, handler: Handler, served: Served) -> None:
    handler.data = ["451 later"]
    config = {**app.config, "MAIL_URL": f"smtp://127.0.0.1:{served(handler).port}", "MAIL_FROM": "mail@example.com"}
    deliver(app, config, "mina@example.org")
    item = OutboxItem._get_collection().find_one({})
    sender = MailSender(config, app.extensions["madang.security"].keys.each("outbox"))
    composed = [sender.compose(item)[0] for _ in range(2)]
    assert len({(str(found["Message-ID"]), str(found["Date"])) for found in composed}) == 1


def test_no_header_comes_from_what_somebody_has_called_something(app: Flask) -> None:
    evil = "Eve\r\nBcc: all@example.com\r\n\r\nA letter of mine"
    letters = app.extensions["madang.security"].letters
    letters.post(Letter("mina@example.org", "new_device", values={"device": evil, "when": now()}))
    given = {"inviter": evil, "group": evil, "code": "K7QM-2XWD", "link": "https://app.example.com/i", "days": 7}
    letters.post(Letter("mina@example.org", "invitation", values=given))
    for came in Mailbox(app).collect():
        assert [name for name in came.message if name not in HEADERS] == []
        assert came.message["Bcc"] is None
        assert "\nA letter of mine" not in came.text


HEADERS = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}


def test_a_mail_that_nobody_can_read_any_more_fails(app: Flask) -> None:
    security = app.extensions["madang.security"]
    security.letters.post(Letter("mina@example.org", "sign_in_code", values={"code": "K7QM-2XWD", "minutes": 15}))
    worker = Dispatcher(MailSender(app.config, [b"another key of 32 bytes, for once"[:32]], None), Deaf())
    item = next_item(worker)
    assert item is not None
    worker.deliver(item, AS_LONG_AS_IT_TAKES)
    found = OutboxItem._get_collection().find_one({})
    assert found["state"] == "failed"
    assert "secret" in found["reason"]


def test_a_mail_that_was_stored_before_the_secret_was_changed_is_sent(make_app: Any) -> None:
    def app(*keys: str) -> Flask:
        return make_app(SECRET_KEY=None, JWT_SECRET_KEY=list(keys))

    letter = Letter("mina@example.org", "sign_in_code", values={"code": "K7QM-2XWD", "minutes": 15})
    app("an old secret").extensions["madang.security"].letters.post(letter)
    (came,) = Mailbox(app("a new secret", "an old secret")).collect()
    assert "K7QM-2XWD" in came.text


# Without a server


def test_without_a_server_mails_are_written_into_a_folder_and_the_log(
    app: Flask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_log({**app.config, "LOG_JSON": False})
    try:
        deliver(app, {**app.config, "VAR": str(tmp_path)}, "mina@example.org", until=now() + timedelta(minutes=15))
    finally:
        configure_log(app.config)
    item = OutboxItem._get_collection().find_one({})
    file = tmp_path / "mail" / f"{item['_id']}.eml"
    assert b"K7QM-2XWD" in file.read_bytes()
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)) == (0o600, 0o700)
    told = capsys.readouterr().out
    assert "mina@example.org" in told
    assert "K7QM-2XWD" in told


def test_by_a_server_nothing_of_a_mail_is_in_the_log(
    app: Flask, handler: Handler, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_log(app.config)
    handler.data = ["451 later"]
    config = {**app.config, "MAIL_URL": f"smtp://127.0.0.1:{served(handler).port}", "MAIL_FROM": "mail@example.com"}
    deliver(app, config, "mina@example.org", "jun@example.org")
    told = capsys.readouterr().out
    assert "item_sent" in told
    assert "item_put_off" in told
    assert not any(word in told for word in ("K7QM-2XWD", "mina@", "jun@"))


@pytest.mark.once
def test_a_folder_that_cannot_be_written_makes_mail_wait(tmp_path: Path) -> None:
    (tmp_path / "mail").write_text("a file")
    with pytest.raises(CannotSend, match="cannot be written"):
        Folder(tmp_path / "mail").deliver(message(), "mail@example.com", "mina@example.org", math.inf)


@pytest.mark.once
def test_the_settings_choose_how_mail_leaves(tmp_path: Path) -> None:
    config = {"VAR": str(tmp_path), "MAIL_URL": None, "MAIL_TIMEOUT": 7.0}
    folder, smtp = transport_for(config), transport_for({**config, **SOMEWHERE})
    assert isinstance(folder, Folder)
    assert folder.folder == tmp_path / "mail"
    assert isinstance(smtp, Smtp)
    assert (smtp.server.host, smtp.timeout) == ("mail.example.com", 7.0)
