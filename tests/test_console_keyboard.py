"""The console in real Chromium by keyboard alone: a whole journey, in which no mouse is touched."""

import pytest

from tests.client import PASSWORD, Person
from tests.test_browser import browser
from tests.test_console_browser import Console, console, gyms

__all__ = ["browser", "console", "gyms"]
pytestmark = [pytest.mark.real, pytest.mark.browser]

NAME = """() => {
  const one = document.activeElement;
  return (one.labels?.[0]?.textContent ?? one.getAttribute("aria-label") ?? one.textContent).trim();
}"""
MOST_TABS = 60
IS_THERE = """() => {
  const asked = document.querySelector("[autofocus]");
  return asked === null || asked === document.activeElement;
}"""


NOTHING_ASKED = "() => document.querySelector('.htmx-request') === null"


class Keyboard:
    """Somebody at the keyboard, who goes from one thing to the next by Tab and hears its name."""

    def __init__(self, console: Console) -> None:
        self.page, self.keys = console.page, console.page.keyboard

    def heard(self) -> str:
        """The first line of the name of what has the focus."""
        return str(self.page.evaluate(NAME)).partition("\n")[0]

    def go_to(self, name: str) -> None:
        heard = []
        while not (heard and heard[-1].startswith(name)):
            assert len(heard) < MOST_TABS, heard
            self.keys.press("Tab")
            heard.append(self.heard())

    def choose(self, value: str) -> None:
        """Go down in the choices that have the focus; what is typed there is one word for a second alone."""
        for _ in range(MOST_TABS):
            if self.page.evaluate("document.activeElement.value") == value:
                return
            self.keys.press("ArrowDown")
        raise AssertionError(f"{value} is no choice")

    def enter(self) -> None:
        # What a reference offers is asked for as soon as it has the focus; an answer that is cut off is a complaint.
        self.page.wait_for_function(NOTHING_ASKED)
        with self.page.expect_navigation():
            self.keys.press("Enter")
        self.page.wait_for_function(IS_THERE)

    def press(self, name: str) -> None:
        self.go_to(name)
        self.enter()

    def write(self, text: str) -> None:
        """Write in place of what is in the field that has the focus."""
        self.keys.press("Control+A")
        self.keys.type(text)


def test_a_record_is_made_found_changed_and_deleted_by_keyboard_alone(console: Console, ada: Person) -> None:
    keyboard = Keyboard(console)
    keyboard.press("Sign out")
    assert keyboard.heard().startswith("Username")
    keyboard.write("ada")
    keyboard.go_to("Password")
    keyboard.write(PASSWORD)
    keyboard.enter()

    keyboard.press("notes")
    keyboard.press("New record")
    keyboard.go_to("title")
    keyboard.write("Milk")
    keyboard.press("Add to tags")
    assert keyboard.heard() == "tags 1"
    keyboard.write("shop")
    keyboard.press("Add to tags")
    assert keyboard.heard() == "tags 2"
    keyboard.press("Remove tags 2")
    assert keyboard.heard() == "Add to tags"
    keyboard.go_to("priority")
    keyboard.write("much")
    keyboard.press("Save")
    assert keyboard.heard() == "priority"
    keyboard.write("2")
    keyboard.enter()
    (note,) = ada.find().json["items"]
    assert (note["title"], note["tags"], note["priority"]) == ("Milk", ["shop"], 2)

    keyboard.press("notes")
    keyboard.go_to("Field 1")
    keyboard.choose("title")
    keyboard.go_to("Value 1")
    keyboard.write("Milk")
    keyboard.enter()
    keyboard.press(note["id"])
    keyboard.press("Edit")
    keyboard.go_to("title")
    keyboard.write("Oat milk")
    keyboard.enter()
    assert ada.get(f"/v1/notes/{note['id']}").json["title"] == "Oat milk"

    keyboard.press("Delete")
    keyboard.press("Delete")
    assert ada.get(f"/v1/notes/{note['id']}").status_code == 404
    keyboard.press("Undo the deletion")
    assert ada.get(f"/v1/notes/{note['id']}").json["title"] == "Oat milk"
    assert console.complaints == []
