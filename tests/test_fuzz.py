"""The short form of `make fuzz`: what the API document allows and forbids, and anything at all for the parsers."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import api, targets
from tests.properties import examples
from tests.trees import another_database, emptied


@pytest.fixture(scope="module")
def base(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that runs."""
    uri = another_database(mongodb_uri, "fuzz")
    with emptied(uri):
        server = api.server(tmp_path_factory.mktemp("fuzz") / "server", uri)
        try:
            api.start(server)
            yield server.base
        finally:
            server.stop()


@pytest.mark.real
@pytest.mark.parametrize(("who", "phases"), [("account", "examples,fuzzing,stateful"), ("nobody", "fuzzing")])
def test_every_answer_is_one_that_the_document_tells(base: str, tmp_path: Path, who: api.Who, phases: str) -> None:
    outcome = api.run(base, tmp_path, who, 2, 1, f"--phases={phases}")
    assert outcome.failures == 0, outcome.said
    assert outcome.cases > 30


JSON = st.recursive(
    st.sampled_from([json.loads(text) for text in targets.VALUES]) | st.text(max_size=3) | st.integers() | st.floats(),
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(st.sampled_from(sorted(targets.names())), parts, max_size=4)
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize("name", targets.TARGETS)
@given(data=st.data())
@examples(60)
def test_a_parser_takes_anything_or_refuses_it_with_a_problem(name: str, data: st.DataObject) -> None:
    begun = st.sampled_from(targets.TARGETS[name][1])
    broken = st.tuples(begun, st.integers(0, 700), st.binary(max_size=4)).map(
        lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]
    )
    targets.feed(name, data.draw(begun | broken | JSON | st.binary(max_size=200)))


# The checks themselves


def test_a_parser_that_raises_anything_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_data: bytes) -> None:
        raise KeyError("x")

    monkeypatch.setattr(targets, "TARGETS", {"broken": (broken, ())})
    with pytest.raises(KeyError):
        targets.feed("broken", b"")


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "broken", "version": "1"},
    "paths": {"/x": {"get": {"responses": {"200": {"description": "fine"}}}}},
}


class Broken(BaseHTTPRequestHandler):
    """A server that does not answer as its document says."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/openapi.json" else 500)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(DOCUMENT).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.real
def test_an_answer_that_the_document_does_not_tell_is_noticed(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        outcome = api.run(f"http://127.0.0.1:{server.server_port}", tmp_path, "nobody", 1, 1, "--phases=fuzzing")
        server.shutdown()
    assert outcome.failures > 0
    assert "Undocumented status code" in outcome.said
