"""A person at the door in a real browser: sees what is asked, mistypes, gets in, and is locked out in the end."""

import os
from typing import Any

import pytest

from accounts import staff
from accounts.models import User
from accounts.tests.staff import fresh_code_of
from disputes.tests.browsing import sign_in_page
from disputes.tests.chromium import CHROMIUM, _connections_end_with_their_request, axe, browser, judged, watched

__all__ = ["CHROMIUM", "_connections_end_with_their_request", "axe", "browser"]
# Set it to a folder to keep pictures of every step: for people who change the pages.
PICTURES = os.environ.get("CONSOLE_PICTURES")
PASSWORD = "a long enough password"

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def mona(db: None) -> User:
    staff.prepare_groups()
    return staff.prepare_account("mona", groups=["Moderators"], password=PASSWORD)


def picture(page: Any, name: str) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png")


def try_to_sign_in(page: Any, password: str, code: str) -> None:
    page.fill("#id_username", "mona")
    page.fill("#id_password", password)
    page.fill("#id_otp_token", code)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_a_moderator_mistypes_and_gets_in(browser, live_server, mona):
    page = watched(browser)
    page.goto(f"{live_server.url}/admin/cases/")
    assert page.evaluate("document.activeElement.id") == "id_username"

    try_to_sign_in(page, "a long enough pasword", fresh_code_of(mona))
    assert "Name, password or code is wrong" in page.locator("[role=alert]").inner_text()
    assert page.locator("#id_password").input_value() == page.locator("#id_otp_token").input_value() == ""
    assert page.locator("#id_username").input_value() == "mona"
    picture(page, "sign-in-wrong")

    page.fill("#id_password", PASSWORD)
    page.fill("#id_otp_token", fresh_code_of(mona))
    page.click("input[type=submit]")
    page.wait_for_url(f"{live_server.url}/admin/cases/")

    (cookie,) = [cookie for cookie in page.context.cookies() if cookie["name"] == "sessionid"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    with page.expect_navigation():
        page.click("text=Log out")
    page.goto(f"{live_server.url}/admin/cases/")
    assert "/admin/login/" in page.url
    assert page.wrong == page.evaluate("window.refused") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_door_is_for_everybody(browser, live_server, mona, axe, settings, scheme):
    page = watched(browser, color_scheme=scheme)
    page.goto(f"{live_server.url}/admin/login/")
    picture(page, f"sign-in-{scheme}")
    assert judged(page, axe) == []

    for _ in range(settings.AXES_FAILURE_LIMIT):
        try_to_sign_in(page, "another password", "123456")

    assert page.locator("h1", has_text="Locked for now").is_visible()
    assert "For 15 minutes nothing does" in page.locator("[role=alert]").inner_text()
    picture(page, f"locked-{scheme}")
    assert judged(page, axe) == []
    assert page.evaluate("window.refused") == []
    assert [said for said in page.wrong if "429" not in said] == []


def test_it_fits_a_phone(browser, live_server, mona):
    page = watched(browser)
    page.set_viewport_size({"width": 360, "height": 640})
    page.goto(f"{live_server.url}/admin/login/")

    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    picture(page, "sign-in-phone")


def test_whoever_knows_how_gets_to_the_page_they_asked_for(browser, live_server, mona):
    page = sign_in_page(watched(browser), live_server, mona, PASSWORD, path="/admin/cases/")

    assert page.url == f"{live_server.url}/admin/cases/"
    assert page.wrong == []
