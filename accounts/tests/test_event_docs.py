"""docs/events.md: its programs run as they stand, its types are those of the code."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from accounts import clock, tokens
from accounts.events import feed, log, rendering, types
from accounts.tests.test_feed import open_transaction

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "events.md").read_text()
PROGRAMS = dict(re.findall(r"^```\w+ title=(\S+)\n(.*?)^```$", DOCS, re.MULTILINE | re.DOTALL))
COMMANDS = {"python": [sys.executable, "follow.py"], "bash": ["bash", "follow.sh"]}
SECONDS = 60


def told(line):
    """Python prints events, bash prints pages."""
    said = json.loads(line)
    return said["data"] if "next_cursor" in said else [said]


def documented():
    """Read the table of types: name → whether it is served."""
    rows = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| (.*?) \|", DOCS, re.MULTILINE)
    return {name: when != "*later*" for name, when in rows}


@pytest.mark.django_db(transaction=True)
class TestPrograms:
    @pytest.fixture(params=COMMANDS)
    def follower(self, request, alice, live_server, tmp_path):
        """Run a program of the page; answers a function that waits until it said so many events, and what."""
        for name, text in PROGRAMS.items():
            (tmp_path / name).write_text(text)
        environment = os.environ | {"BAILEE_URL": live_server.url, "BAILEE_TOKEN": tokens.mint(alice).secret}
        said = tmp_path / "said"

        def events():
            return [event for line in said.read_text().splitlines() for event in told(line)]

        def wait_for(count):
            end = time.monotonic() + SECONDS
            while len(events()) < count and time.monotonic() < end:
                time.sleep(0.05)
            return events()

        with said.open("w") as output:
            process = subprocess.Popen(COMMANDS[request.param], cwd=tmp_path, env=environment, stdout=output)
        yield wait_for
        process.kill()
        process.wait()

    def test_get_every_event_once_and_as_it_is_listed(self, follower, alice):
        def tell(number):
            log.record("job.proposed", to=[alice.pk], data={"job_id": "1", "n": number}, at=clock.now())

        with open_transaction(lambda: tell(0)):
            log.record("job.funded", to=[alice.pk], data={"n": 1}, at=clock.now())
        first = follower(3)
        for number in range(2, 108):
            tell(number)
        then = follower(109)

        assert len(first) == 3
        listed = feed.read(alice.pk, limit=1_000)
        assert then == [json.loads(rendering.body(event)) for event in listed]
        assert len(then) == 109


class TestTypes:
    def test_are_those_that_the_code_knows(self):
        assert set(documented()) == types.ALL

    def test_are_marked_as_later_exactly_where_nothing_tells_them(self):
        sources = [
            path.read_text()
            for app in ("accounts", "escrow", "marketplace", "disputes")
            for path in (ROOT / app).rglob("*.py")
            if "tests" not in path.parts and path.name != "types.py"
        ]
        told = {name for name in types.ALL if any(f'"{name}"' in source for source in sources)}

        assert told == {name for name, served in documented().items() if served}

    @pytest.mark.django_db
    def test_no_other_can_be_told(self, alice):
        with pytest.raises(ValueError, match="is no type of event"):
            log.record("job.invented", to=[alice.pk], data={}, at=clock.now())
