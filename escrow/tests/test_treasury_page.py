"""The treasury page: figures, who sees and who may, every refusal, one yes for one page."""


import pytest
from django.test import Client

from accounts import staff
from accounts.models import User

pytestmark = pytest.mark.django_db
PAGE = "/admin/treasury/"


@pytest.fixture
def groups(db):
    staff.prepare_groups()


@pytest.fixture
def page(groups) -> Client:
    return signed_in(staff.prepare_account("tess", groups=["Treasurers"]))


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


class TestPage:
    def test_shows(self, page, chain, ask):
        ask()
        answer = page.get(PAGE)
        assert answer.status_code == 200
        assert page.get(PAGE + "live/").status_code == 200
