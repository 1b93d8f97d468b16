"""What machines are told about cases."""

from datetime import timedelta

import pytest
from django.test import Client

from accounts import clock
from disputes.tests.conftest import DAY, HOUR

pytestmark = pytest.mark.django_db


@pytest.fixture
def noon():
    return clock.now() - 2 * DAY - 2 * HOUR


def read() -> dict[str, float]:
    lines = Client().get("/metrics").content.decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if "case" in line[:16])}


def test_of_a_house_without_cases(db):
    numbers = read()

    assert numbers["bailee_cases_unassigned"] == numbers["bailee_case_oldest_review_seconds"] == 0
    assert numbers["bailee_case_overdue_seconds"] == 0


def test_of_a_case_that_nobody_has(case_at):
    case_at("under_review")  # came under review an hour ago

    numbers = read()

    assert numbers['bailee_cases_open{state="under_review"}'] == 1
    assert numbers['bailee_cases_open{state="evidence"}'] == 0
    assert numbers["bailee_cases_unassigned"] == 1
    assert timedelta(seconds=numbers["bailee_case_oldest_review_seconds"]) > HOUR - timedelta(seconds=1)
    assert numbers["bailee_case_overdue_seconds"] == 0


def test_of_a_clock_that_no_sweep_has_enforced(case_at, noon):
    case = case_at("evidence")  # its evidence closes two days and an hour after noon
    assert case.deadline_at < clock.now()

    assert timedelta(seconds=read()["bailee_case_overdue_seconds"]) > HOUR - timedelta(seconds=1)
