"""What holds of a `where` at its edges."""

import mongoengine as me

from service.documents import Record
from tests.test_query import parse


class Gauge(Record):
    """A record that is asked for a number, which may be larger than any whole number of MongoDB's."""

    height = me.FloatField()

    meta = {"collection": "gauges", "sorts": ["-updated_at"], "filters": ["height"]}


def test_a_whole_number_of_more_than_64_bits_is_a_number() -> None:
    assert parse(Gauge, where={"height": {"$gt": 2**65}}).where == {"height": {"$gt": 2.0**65}}
