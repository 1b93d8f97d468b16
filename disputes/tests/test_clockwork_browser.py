"""The clockwork and the incidents in a real browser: what operators read there, and what they do by keyboard."""

import os
from datetime import timedelta

import pytest
from django.core.management import call_command
from django_celery_beat.models import PeriodicTask

from accounts import clock, clockwork, runs, staff
from disputes.tests import world
from disputes.tests.browsing import sign_in_page
from disputes.tests.chromium import *  # noqa: F403 (fixtures)
from disputes.tests.chromium import judged, watched
from marketplace import incidents
from marketplace.models import Heartbeat, Incident

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PICTURES = os.environ.get("CONSOLE_PICTURES")
CLOCK, TASK = "marketplace.tasks.enforce_deadlines", "escrow.tasks.check_recent_books"


@pytest.fixture
def at_work(db):
    """Tasks that run, one that fails and one that leaves things lying; parts that are seen; an outage that is over."""
    staff.prepare_groups()
    staff.prepare_account("olga", groups=["Operators"], password=world.PASSWORD)
    call_command("setup_schedules", verbosity=0)
    for number, task in enumerate(PeriodicTask.objects.order_by("name").values_list("name", flat=True)):
        runs.write(task, seconds=0.007 * number)
    for _ in range(6):
        runs.write(TASK, seconds=1, error="OperationalError")
    for part, seconds in (("beat", 1), ("redis", 1), ("worker", 45), ("chain", 12)):
        Heartbeat.objects.create(part=part, at=clock.now() - timedelta(seconds=seconds))
    incidents.end(incidents.start(reason="The database host was moved.", since=clock.now() - timedelta(minutes=7)).pk)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_operators_read_and_set_the_clockwork_and_declare_an_incident(
    browser, live_server, axe, at_work, scheme, monkeypatch
):
    monkeypatch.setattr(clockwork, "_sweeps", {})
    clockwork.register(CLOCK, due=lambda: (12, clock.now() - timedelta(minutes=3)))
    page = sign_in_page(watched(browser, color_scheme=scheme), live_server, "olga", world.PASSWORD)
    looked_at(page, axe, f"{scheme}-desk")

    page.click("text=Clockwork")
    looked_at(page, axe, f"{scheme}-clockwork")
    row = page.locator("tr", has=page.locator("th", has_text=TASK))
    assert "OperationalError" in row.inner_text()
    assert "failing" in row.inner_text()
    assert "leaves things lying" in page.locator("tr", has=page.locator("th", has_text=CLOCK)).inner_text()
    row.locator("text=Set").click()
    page.wait_for_url(f"**/clockwork/{TASK}/")
    looked_at(page, axe, f"{scheme}-set")
    page.fill("#id_seconds", "900")
    page.uncheck("#id_enabled")
    page.fill("#id_reason", "The books are quiet.")
    page.click("button:has-text('Set it')")
    page.wait_for_url("**/clockwork/")
    assert "off" in page.locator("tr", has=page.locator("th", has_text=TASK)).inner_text()

    page.goto(f"{live_server.url}/admin/clockwork/{CLOCK}/")
    assert page.is_disabled("#id_enabled")
    assert page.get_attribute("#id_seconds", "max") == "60"
    looked_at(page, axe, f"{scheme}-clock")

    page.click("text=Incidents")
    page.click("text=Declare an incident")
    looked_at(page, axe, f"{scheme}-declare")
    page.fill("#id_reason", "The data centre lost its power.")
    page.press("#id_reason", "Tab")
    page.click("button:has-text('Declare it')")
    page.wait_for_url("**/incidents/")
    assert "stand still since" in page.inner_text("#content")
    looked_at(page, axe, f"{scheme}-incidents")
    page.click("a:text-is('End')")
    page.fill("#id_reason", "It is back.")
    looked_at(page, axe, f"{scheme}-end")
    page.click("button:has-text('End it')")
    page.wait_for_url("**/incidents/")

    assert not Incident.objects.filter(ended_at=None).exists()
    assert page.evaluate("window.refused") == []
    assert page.wrong == []


def looked_at(page, axe, name):
    assert judged(page, axe) == [], name
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280, name
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)
