"""A function of somebody's own, for generated clients: put into a copy of the service beside `tests/gym.py`."""

from pydantic import Field
from service.documents.gym import Gym

from service.http.functions import Payload, function
from service.records.acting import Acting


class Rating(Payload):
    """What somebody thinks of gyms of a name."""

    name: str
    stars: int = Field(ge=1, le=5)


class Rated(Payload):
    """How many gyms were rated."""

    gyms: int


@function("rate-gyms", body=Rating, answer=Rated, example={"name": "Yard", "stars": 5})
def rate_gyms(acting: Acting, body: Rating) -> Rated:
    """Rate all gyms of a name."""
    gyms = acting.records(Gym)
    found = [gym["id"] for gym in gyms.each({"name": body.name})]
    for id in found:
        gyms.change(id, {"rating": body.stars})
    return Rated(gyms=len(found))
