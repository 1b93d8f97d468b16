"""docs/money.md says what the code does: its tables are read and compared."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from accounts.models import Pause
from escrow import withdrawal_table as table
from escrow.models import Deposit

PAGE = Path(settings.BASE_DIR, "docs", "money.md").read_text()


def rows_under(heading):
    """The cells of each row of the first table under a heading."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


class TestMoneyPage:
    def test_has_the_table_of_withdrawals(self):
        shown = {(row[1], frozenset(row[0].split(", ")), row[3]) for row in rows_under("Withdrawals")[1:]}

        assert shown == {(str(action), rule.before, rule.after) for action, rule in table.RULES.items()}

    def test_names_every_state_of_a_deposit(self):
        assert {row[0] for row in rows_under("Deposits")} == set(Deposit.State.values)

    def test_names_every_switch(self):
        assert {row[0] for row in rows_under("Pausing")} == set(Pause.Flag.values)

    def test_says_which_alerts_pause(self):
        kinds = {kind: row[2] for row in rows_under("The treasury watch") for kind in row[0].split(", ")}

        assert {kind for kind, pauses in kinds.items() if pauses == "yes"} == set(settings.TREASURY_PAUSE_ON)

    def test_names_every_alert_the_code_sounds(self):
        named = {kind for row in rows_under("The treasury watch") for kind in row[0].split(", ")}
        said = re.compile(r'(?:sound|alarm|_say|_say_each)\(\s*"([a-z_]+)"|(?:KIND|UNEXPLAINED|STUCK) = "([a-z_]+)"')
        code = [path.read_text() for path in Path(settings.BASE_DIR, "escrow").glob("*.py")]
        sounded = {first or second for text in code for first, second in said.findall(text)}

        assert sounded <= named
        assert len(sounded) > 10

    @pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([a-z/-]+\.md|runbooks/README\.md)\)", PAGE))))
    def test_links_to_pages_that_are_there(self, link):
        assert Path(settings.BASE_DIR, "docs", link).exists()
