"""The runbooks are found: each is in the index, each link leads somewhere, each alert has its page."""

import re

import pytest

from config.devstack.state import PROJECT
from escrow.console import words

RUNBOOKS = PROJECT / "docs" / "runbooks"
PAGES = sorted(path.name for path in RUNBOOKS.glob("*.md"))
LINK = re.compile(r"\]\(([^)#]+)\)")


class TestRunbooks:
    def test_the_index_names_each(self) -> None:
        index = (RUNBOOKS / "README.md").read_text()

        assert len(PAGES) > 6
        assert [name for name in PAGES if name != "README.md" and f"]({name})" not in index] == []

    @pytest.mark.parametrize("name", PAGES)
    def test_its_links_lead_somewhere(self, name: str) -> None:
        links = LINK.findall((RUNBOOKS / name).read_text())

        assert [link for link in links if not (RUNBOOKS / link).exists()] == []

    @pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md"])
    def test_says_what_was_seen_when_it_was_tried(self, name: str) -> None:
        assert "## What was seen when this was tried" in (RUNBOOKS / name).read_text()

    def test_each_alert_has_its_page(self) -> None:
        index = (RUNBOOKS / "README.md").read_text()

        assert [kind for kind in words.ALERTS if f"`{kind}`" not in index] == []
