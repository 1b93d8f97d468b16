"""A member of staff: a browser, a password, and an authenticator that never shows a code twice."""

import re
import time

from config.devstack import people
from config.devstack.demo.agents import NeverHappened
from config.devstack.demo.browsing import Browser, Form, Page
from config.devstack.demo.narrator import tell

# A code that somebody used a moment ago, in an earlier run on this state, is refused once.
TRIES = 2


class Person:
    """Somebody with an account of `stack.json`; signs in when a page asks for it."""

    def __init__(self, web_url: str, account: dict[str, str]) -> None:
        self.name = account["username"]
        self.browser = Browser(web_url)
        self._password = account["password"]
        self._secret = account["totp_secret"]
        self._last_step = 0

    def open(self, path: str) -> Page:
        """
        Open a page of the admin.

        :raises NeverHappened: if the door stays shut
        """
        page = self.browser.open(path)
        for _ in range(TRIES):
            if not _asks_for_a_name(page):
                return page
            fields = {"username": self.name, "password": self._password, "otp_token": self._fresh_code()}
            page = self.browser.send(page, needed(page, page.url), **fields)
            if not _asks_for_a_name(page):
                tell(self.name, "signs in to the admin with password and code")
                return page
        raise NeverHappened(f"{self.name} signed in ({page.status})")

    def send(self, page: Page, ending: str, **values: str | list[str]) -> Page:
        """Fill in the form whose address ends so, and send it."""
        return self.browser.send(page, needed(page, ending), **values)

    def _fresh_code(self) -> str:
        while (step := int(time.time()) // people.STEP_SECONDS) <= self._last_step:
            time.sleep(0.5)
        self._last_step = step
        return people.code_of(self._secret, at=step * people.STEP_SECONDS)


def needed(page: Page, ending: str) -> Form:
    if form := page.form(ending):
        return form
    raise NeverHappened(f"the form {ending} on {page.url} ({page.status}); the page says: {page.errors or 'nothing'}")


def holder_of(page: Page) -> str | None:
    """Read on the page of a case who has it; None while nobody does."""
    found = re.search(r"(\w+) has this case", page.words)
    return found[1] if found and found[1] != "Nobody" else None


def _asks_for_a_name(page: Page) -> bool:
    return page.url.partition("?")[0].endswith("/login/")
