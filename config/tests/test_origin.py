"""Where an audited action came from, whichever app does it."""

import pytest
from django.test import Client

from accounts import audit
from escrow import solvency


@pytest.mark.django_db
def test_is_set_for_every_request(monkeypatch):
    seen, read = [], solvency.read
    monkeypatch.setattr(solvency, "read", lambda: [seen.append(audit.origin.get()), read()][1])

    Client().get("/v1/solvency", REMOTE_ADDR="203.0.113.9", HTTP_X_REQUEST_ID="r-2")

    assert seen == [("203.0.113.9", "r-2")]
