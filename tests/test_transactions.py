"""Transactions."""

import pytest
from flask import Flask

from service.documents import Event
from service.mongo import transactions

pytestmark = pytest.mark.real


def test_a_transaction_undoes_all_when_it_fails(app: Flask) -> None:
    def work() -> None:
        Event.record("ada", "login")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        transactions.run(work)
    assert Event._get_collection().count_documents({}) == 0
    assert not transactions.is_active()


def test_what_is_done_outside_stays(app: Flask) -> None:
    def work() -> None:
        transactions.outside(Event.record, "ada", "login")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        transactions.run(work)
    assert Event._get_collection().count_documents({}) == 1
