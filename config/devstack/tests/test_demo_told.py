import json
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks.webhooks import Webhook

from accounts.tests import strangers
from config.devstack.demo import streamed, told
from config.devstack.tests.conftest import wait_for

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def event(number: int, **data: Any) -> dict[str, Any]:
    return {"id": str(number), "cursor": f"1.{number}", "type": "job.funded", "data": data}


class Ada:
    """An agent that was told some events."""

    name, handle = "Ada", "ada"

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = list(events)
        self.http = httpx2.Client(headers={"Authorization": "Bearer token"})
        self.url = ""

    def get(self, path: str, *, after: str, limit: int) -> dict[str, Any]:
        cursors = [event["cursor"] for event in self.events]
        begin = cursors.index(after) + 1 if after else 0
        return {"data": self.events[begin : begin + limit]}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.url = body["url"]
        return {"url": self.url, "secret": SECRET}

    def is_sent(self, event: dict[str, Any], *, id: str, secret: str = SECRET, at: datetime | None = None) -> int:
        body, at = json.dumps(event), at or datetime.now(UTC)
        headers = {
            "webhook-id": id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign(id, at, body),
        }
        return self.http.post(self.url, content=body, headers=headers).status_code


@pytest.fixture
def ada() -> Ada:
    return Ada(event(1))


@pytest.fixture
def receiver(tmp_path: Path, ada: Ada, monkeypatch: pytest.MonkeyPatch) -> Iterator[told.Receiver]:
    monkeypatch.setattr(told, "PATIENCE_SECONDS", 0.0)
    with told.receiver(tmp_path) as receiver:
        receiver.listen(ada)
        assert wait_for(lambda: ada.is_sent(event(2), id="evt_1_2") == 204)
        ada.events.append(event(2))
        yield receiver


class TestReceiver:
    def test_takes_what_is_signed_and_nothing_else(self, ada: Ada, receiver: told.Receiver) -> None:
        assert ada.is_sent(event(3), id="evt_1_3", secret="whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") == 401
        assert ada.is_sent(event(3), id="evt_1_3", at=datetime.now(UTC) - timedelta(minutes=6)) == 401
        ada.url += "-elsewhere"
        assert ada.is_sent(event(3), id="evt_1_3") == 401

        receiver.compare()

    def test_what_comes_twice_counts_once(self, ada: Ada, receiver: told.Receiver, capsys: Any) -> None:
        assert ada.is_sent(event(2), id="evt_1_2") == 204

        receiver.compare()

        assert "got 1 events as webhooks (1 came twice" in capsys.readouterr().out

    def test_something_is_missing(self, ada: Ada, receiver: told.Receiver) -> None:
        ada.events.append(event(3))

        with pytest.raises(told.ToldOtherwise, match=re.escape("missing ['3']")):
            receiver.compare()

    def test_something_was_never_listed(self, ada: Ada, receiver: told.Receiver) -> None:
        ada.is_sent(event(3), id="evt_1_3")

        with pytest.raises(told.ToldOtherwise, match=re.escape("never listed ['3']")):
            receiver.compare()

    def test_something_is_not_the_same(self, ada: Ada, receiver: told.Receiver) -> None:
        ada.events[-1] = event(2, price="1.000000")

        with pytest.raises(told.ToldOtherwise, match=re.escape("not the same ['2']")):
            receiver.compare()

    def test_an_event_has_another_id_the_second_time(self, ada: Ada, receiver: told.Receiver) -> None:
        ada.is_sent(event(2), id="evt_1_3")

        with pytest.raises(told.ToldOtherwise, match="1 events came as 2 messages"):
            receiver.compare()


class TestStream:
    def test_comes_back_with_the_last_id_and_counts_no_event_that_was_cut_off(self, ada: Ada, monkeypatch) -> None:
        monkeypatch.setattr(told, "PATIENCE_SECONDS", 5.0)
        asked: list[bytes] = []
        answers = [
            b"retry: 1000\nid: 1.1\n\nid: 1.2\nevent: job.funded\ndata: %s\n\nid: 1.3\ndata: {" % _json(event(2)),
            b": heartbeat\n\nid: 1.3\ndata: %s\n\n" % _json(event(3)),
        ]

        def behave(connection: socket.socket) -> None:
            asked.append(connection.recv(65536))
            told_now = answers[min(len(asked), 2) - 1]
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"%x\r\n%s\r\n" % (len(told_now), told_now))
            while len(asked) > 1 and connection.recv(1):
                pass

        with strangers.Receiver(behave) as server:
            stream = streamed.Stream(ada, stream_url=server.url(path=""))
            ada.events += [event(2), event(3)]

            stream.compare()

            stream.cut()
            assert wait_for(lambda: len(asked) == 3)
            with pytest.raises(told.ToldOtherwise, match="events"):
                _compare_again(stream)
            stream.end()
        assert [_last_event_id(request) for request in asked] == ["1.1", "1.2", "1.3"]


def _compare_again(stream: streamed.Stream) -> None:
    """The second answer tells the third event again, which a stream may not."""
    assert wait_for(lambda: len(stream._events) == 3)
    stream.compare()


def _json(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def _last_event_id(request: bytes) -> str:
    return re.search(rb"(?i)last-event-id: (\S+)", request)[1].decode()
