import pytest

from config.devstack import applications
from config.devstack.failures import StackFailed


class TestWanted:
    def test_is_everything_by_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PROCESSES", "")

        assert [one.name for one in applications.wanted(port=1)] == [
            *("web", "stream", "worker", "webhooks", "treasury", "beat")
        ]

    def test_is_what_was_named_in_the_order_of_the_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PROCESSES", "beat, treasury")

        assert [one.name for one in applications.wanted(port=1)] == ["treasury", "beat"]

    def test_is_nothing_if_none_is_wanted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PROCESSES", "none")

        assert applications.wanted(port=1) == ()

    def test_refuses_a_name_that_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PROCESSES", "treasury,webb")

        with pytest.raises(StackFailed, match="there is no process webb"):
            applications.wanted(port=1)
