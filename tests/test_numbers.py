"""Numbers: what is whole is kept to its last digit, however it is written, or refused; 64 bits can travel as text."""

import json
from decimal import Decimal
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import MalformedJson, ValidationFailed
from service.core.json_text import canonical, decode, decode_rows, encode
from service.documents import Record
from service.model.declarations import InvalidDocument
from service.model.record_type import derive
from service.model.values import integral
from service.upkeep import indexes
from tests.client import Person, Phone, pointers
from tests.properties import examples

JSON = {"Content-Type": "application/json"}
MOST = 2**63 - 1


class Seat(me.EmbeddedDocument):
    number = me.LongField(as_string=True)


class Ledger(Record):
    """A type with every kind of whole number."""

    total = me.LongField(as_string=True, min_value=-(2**62), default=0)
    serial = me.LongField(as_string=True)
    small = me.IntField(min_value=0, max_value=9)
    ratio = me.FloatField()
    parts = me.ListField(me.LongField(as_string=True), max_length=5)
    seats = me.EmbeddedDocumentListField(Seat)
    marks = me.MapField(me.LongField(as_string=True))
    counts = me.ListField(me.IntField())
    extra = me.DictField()

    meta = {
        "collection": "test_ledgers",
        "sorts": ["updated_at", "-updated_at", "total", "-total"],
        "filters": ["id", "total", "serial", "small", "parts", "counts", "ratio", "seats.number"],
    }


@pytest.fixture
def ledgers(app: Flask, make_app: Any, ada: Person) -> Any:
    """A phone of ada's on an app that has the type."""
    other = make_app(documents=[Ledger])
    with other.app_context():
        indexes.make(other.extensions["madang.registry"])
    yield Phone(other.test_client(), ada.headers)
    Ledger._get_collection().drop()


def sent(phone: Phone, method: str, path: str, text: str) -> Any:
    """Send a body as it is written."""
    return phone.send(method, path, data=text, content_type="application/json")


# What a text says


DIGITS = st.text("0123456789", min_size=1, max_size=22).map(lambda text: text.lstrip("0") or "0")
FRACTIONS = st.text("0123456789", max_size=6).map(lambda text: f".{text}" if text else "")
EXPONENTS = st.one_of(st.just(""), st.integers(-25, 25).map(lambda power: f"e{power}"))
NUMBERS = st.builds("".join, st.tuples(st.sampled_from(["", "-"]), DIGITS, FRACTIONS, EXPONENTS))


@given(number=NUMBERS)
@examples(1000)
def test_a_whole_number_is_one_to_its_last_digit_however_it_is_written(number: str) -> None:
    exact, rounded = Decimal(number), float(number)
    text = b'{"n": [%s]}' % number.encode()
    if exact == exact.to_integral_value():
        read = integral(decode(text)["n"][0])
        assert (type(read), read) == (int, int(exact))
    elif rounded.is_integer():
        with pytest.raises(ValidationFailed) as refused:
            decode(text)
        assert [(cause.code, cause.pointer) for cause in refused.value.causes] == [("inexact", "/n/0")]
    else:
        assert decode(text)["n"][0] == rounded


@given(
    value=st.recursive(
        st.integers(-(2**70), 2**70)
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
        | st.none(),
        lambda inner: st.lists(inner),
    )
)
@examples(100)
def test_what_was_read_can_be_written_again(value: Any) -> None:
    assert decode(encode(value)) == json.loads(json.dumps(value))


def test_two_texts_of_the_same_numbers_have_one_canonical_text() -> None:
    first, second = b'{"b": 18446744073709551616, "a": 5.0}', b'{"a":5,"b":18446744073709551616.0}'
    assert canonical(first) == canonical(second) == b'{"a":5,"b":18446744073709551616}'
    assert canonical(b'{"a": 9007199254740993.0}') == canonical(b'{"a": 9007199254740993}')


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 400])
def test_a_number_beyond_all_is_none(number: str) -> None:
    with pytest.raises(MalformedJson):
        decode(number.encode())


@pytest.mark.parametrize("number", ["0e9999999999999999999", "0.0e-99999999999999999999", "1e-99999999999999999999"])
def test_an_exponent_of_any_length_is_read(number: str) -> None:
    assert decode(f"[{number}, 1234567890123456789]".encode()) == [0.0, 1234567890123456789]


def test_rows_are_read_to_the_last_digit_and_the_row_with_a_lost_fraction_is_told() -> None:
    rows, wrong = decode_rows(b'[{"n": 18446744073709551616}, {"n": [12345678901234567.5]}, {"n": 5.0}]')
    assert rows[0] == {"n": 2**64}
    assert [[cause.pointer for cause in wrong(row)] for row in rows] == [[], ["/n/0"], []]


@pytest.mark.parametrize("text", [b'["\\ud83d", 1e400]', b"[1234567890123456789, 1e400]", b'["\\ud83d", NaN]'])
def test_what_is_no_number_makes_no_rows(text: bytes) -> None:
    with pytest.raises(MalformedJson):
        decode_rows(text)


# Whole numbers


def test_a_fraction_of_zero_is_a_whole_number_wherever_one_is_due(ledgers: Phone) -> None:
    body = '{"id": "a", "small": 5.0, "counts": [1e0, 20e-1], "total": 1E1, "parts": [3.0], "extra": {"n": 5.0}}'
    made = sent(ledgers, "POST", "/v1/test_ledgers", body).json
    assert (made["small"], made["counts"], made["total"], made["parts"]) == (5, [1, 2], "10", ["3"])
    assert (type(made["small"]), type(made["extra"]["n"])) == (int, float)
    body = '{"$inc": {"small": 1.0, "total": 2.0}, "$push": {"counts": {"each": [3.0], "position": 0.0, "slice": 2.0}}}'
    changed = sent(ledgers, "PATCH", "/v1/test_ledgers/a", body).json
    assert (changed["small"], changed["total"], changed["counts"]) == (6, "12", [3, 1])
    found = [{"small": 6.0}, {"small": {"$in": [6.0]}}, {"counts": {"$size": 2.0}}, {"total": 12.0}, {"counts": 3.0}]
    for where in found:
        assert [item["id"] for item in ledgers.find("/v1/test_ledgers", where).json["items"]] == ["a"]
    stored = Ledger._get_collection().find_one({"_id": "a"})
    assert [type(stored[name]) is float for name in ("small", "total")] == [False, False]


def test_a_whole_number_may_be_written_with_an_exponent(ledgers: Phone) -> None:
    made = sent(ledgers, "POST", "/v1/test_ledgers", '{"id": "a", "serial": 123456789012345e4, "total": 1e18}').json
    assert (made["serial"], made["total"]) == ("1234567890123450000", "1000000000000000000")


@pytest.mark.parametrize(
    "number", ["18446744073709551616", "9223372036854775808", "-9223372036854775809", "1e19", "1" * 300]
)
@pytest.mark.parametrize("field", ["total", "serial", "small", "parts", "seats", "marks", "counts"])
def test_what_64_bits_do_not_hold_is_refused_at_any_depth(ledgers: Phone, field: str, number: str) -> None:
    form, place = {
        "parts": ("[1, %s]", "/parts/1"),
        "counts": ("[%s]", "/counts/0"),
        "seats": ('[{"number": %s}]', "/seats/0/number"),
        "marks": ('{"a": %s}', "/marks/a"),
    }.get(field, ("%s", f"/{field}"))
    ledgers.post("/v1/test_ledgers", {"id": "a"})
    body = json.dumps({field: 0}).replace("0", form % number)
    for method, path in (("POST", ""), ("PUT", "/b"), ("PATCH", "/a")):
        answer = sent(ledgers, method, f"/v1/test_ledgers{path}", body)
        assert (answer.status_code, list(pointers(answer))) == (422, [place])
        assert pointers(answer)[place] in ("too_large", "too_small")


@pytest.mark.parametrize("number", ["18446744073709551616", "9223372036854775808.0", "-9223372036854775809"])
def test_a_free_form_object_keeps_a_whole_number_or_refuses_it(ledgers: Phone, number: str) -> None:
    body = '{"extra": {"ok": [9223372036854775807, 1e300, 0.1], "a": [{"n": NUMBER}]}}'.replace("NUMBER", number)
    for method, path in (("POST", ""), ("PUT", "/b")):
        answer = sent(ledgers, method, f"/v1/test_ledgers{path}", body)
        assert (answer.status_code, pointers(answer)) == (422, {"/extra/a/0/n": "too_large"})
    batch = '{"requests": [{"method": "POST", "path": "/v1/test_ledgers", "body": NUMBER}]}'.replace("NUMBER", body)
    (part,) = sent(ledgers, "POST", "/v1/batch", batch).json["responses"]
    assert (part["status"], part["body"]["errors"][0]["pointer"]) == (422, "/extra/a/0/n")
    ledgers.post("/v1/test_ledgers", {"id": "a"})
    answer = sent(ledgers, "PATCH", "/v1/test_ledgers/a", '{"extra": {"b": NUMBER}}'.replace("NUMBER", number))
    assert (answer.status_code, pointers(answer)) == (422, {"/extra/b": "too_large"})


def test_a_free_form_object_keeps_all_that_it_can(ledgers: Phone) -> None:
    body = '{"extra": {"most": 9223372036854775807, "least": -9223372036854775808, "large": 1e20, "small": 0.1}}'
    made = sent(ledgers, "POST", "/v1/test_ledgers", body).json["extra"]
    assert made == {"most": MOST, "least": -(2**63), "large": 1e20, "small": 0.1}


@pytest.mark.parametrize(("number", "kept"), [("9007199254740993", False), ("9007199254740992", True), ("0.1", True)])
def test_a_float_keeps_a_whole_number_or_refuses_it(ledgers: Phone, number: str, kept: bool) -> None:
    answer = sent(ledgers, "POST", "/v1/test_ledgers", '{"ratio": NUMBER}'.replace("NUMBER", number))
    assert (answer.status_code == 201) == kept
    if not kept:
        assert pointers(answer) == {"/ratio": "inexact"}
        answer = sent(
            ledgers,
            "PATCH",
            f"/v1/test_ledgers/{answer.json.get('id', 'a')}",
            '{"$inc": {"ratio": NUMBER}}'.replace("NUMBER", number),
        )
        assert pointers(answer) == {"/$inc/ratio": "inexact"}


@pytest.mark.parametrize("number", ["18446744073709551616", "1e19", "[18446744073709551616]", '"18446744073709551616"'])
def test_a_condition_on_what_64_bits_do_not_hold_is_refused(ledgers: Phone, number: str) -> None:
    for name in ("total", "small", "counts"):
        answer = ledgers.get(
            "/v1/test_ledgers",
            query_string={"where": '{"NAME": {"$gt": NUMBER}}'.replace("NAME", name).replace("NUMBER", number)},
        )
        assert (answer.status_code, answer.json["code"]) == (400, "bad_query")


# Whole numbers as text


def test_a_long_as_a_string_is_one_in_every_answer_and_taken_in_both_forms(ledgers: Phone) -> None:
    made = ledgers.post(
        "/v1/test_ledgers", {"id": "a", "total": str(2**60), "parts": ["1", 2], "seats": [{"number": 7}]}
    ).json
    assert (made["total"], made["parts"], made["seats"]) == (str(2**60), ["1", "2"], [{"number": "7"}])
    assert ledgers.post("/v1/test_ledgers", {"id": "b", "marks": {"x": "5"}}).json["total"] == "0"
    stored = Ledger._get_collection().find_one({"_id": "a"})
    assert (stored["total"], stored["parts"], stored["seats"]) == (2**60, [1, 2], [{"number": 7}])
    (item,) = ledgers.find("/v1/test_ledgers", {"total": {"$gte": str(2**60)}}, fields="total").json["items"]
    assert item == {"id": "a", "total": str(2**60)}
    conditions = [{"total": 2**60}, {"parts": "2"}, {"parts": {"$all": ["1", 2]}}, {"seats.number": {"$in": ["7"]}}]
    for where in conditions:
        assert [item["id"] for item in ledgers.find("/v1/test_ledgers", where).json["items"]] == ["a"]


@pytest.mark.parametrize("operand", [3, "3"])
def test_operators_count_with_a_long_as_a_string(ledgers: Phone, operand: Any) -> None:
    ledgers.post("/v1/test_ledgers", {"id": "a", "total": 10, "serial": 5, "parts": [1, 3], "marks": {"x": 1}})
    bodies: list[tuple[dict[str, Any], str, Any]] = [
        ({"$inc": {"total": operand}}, "total", "13"),
        ({"$min": {"total": operand}}, "total", "3"),
        ({"$max": {"serial": operand}}, "serial", "5"),
        ({"$max": {"serial": operand}, "$min": {"marks.x": operand}}, "marks", {"x": "1"}),
        ({"$push": {"parts": operand}}, "parts", ["1", "3", "3"]),
        ({"$pull": {"parts": operand}}, "parts", ["1"]),
        ({"$add_to_set": {"parts": operand}}, "parts", ["1", "3"]),
        ({"parts.0": operand, "$inc": {"marks.x": operand}}, "parts", ["3", "3"]),
        ({"$inc": {"marks.x": operand}}, "marks", {"x": "4"}),
    ]
    start = ledgers.get("/v1/test_ledgers/a").json
    keep = {name: start[name] for name in ("total", "serial", "parts", "marks")}
    for body, name, expected in bodies:
        # The second time by the way on which the result is computed: a key of a map that has a rule around it.
        assert ledgers.patch("/v1/test_ledgers/a", body).json[name] == expected, body
        assert ledgers.put("/v1/test_ledgers/a", keep).status_code == 200


def test_a_sum_of_longs_that_does_not_fit_is_refused(ledgers: Phone) -> None:
    ledgers.post("/v1/test_ledgers", {"id": "a", "total": str(MOST)})
    assert pointers(ledgers.patch("/v1/test_ledgers/a", {"$inc": {"total": "1"}})) == {"/$inc/total": "too_large"}
    assert ledgers.patch("/v1/test_ledgers/a", {"$inc": {"total": "-1"}}).json["total"] == str(MOST - 1)


@pytest.mark.parametrize("sort", ["total", "-total"])
def test_pages_go_by_the_number_and_not_by_its_text(ledgers: Phone, sort: str) -> None:
    numbers = [MOST, 9, 10, -5, 2**53 + 1, 2**53, 0]
    for number in numbers:
        ledgers.post("/v1/test_ledgers", {"total": str(number)})
    found, cursor = [], {}
    while True:
        page = ledgers.find("/v1/test_ledgers", sort=sort, limit=2, **cursor).json
        found += [int(item["total"]) for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == sorted(numbers, reverse=sort.startswith("-"))


def test_the_document_says_that_it_is_a_string(ledgers: Phone) -> None:
    schemas = ledgers.get("/openapi.json").json["components"]["schemas"]
    for name in ("Ledger", "LedgerCreate"):
        told = schemas[name]["properties"]["total"]
        assert (told["type"], told["format"]) == ("string", "int64")
    assert schemas["LedgerInc"]["properties"]["total"]["type"] == "string"


def test_only_a_long_can_be_a_string() -> None:
    class Ticket(Record):
        number = me.IntField(as_string=True)
        meta = {"collection": "test_tickets"}

    with pytest.raises(InvalidDocument, match=r"Ticket.number has the argument as_string, which a LongField takes"):
        derive(Ticket)
