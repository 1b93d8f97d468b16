"""docs/disputes.md is the table for people: it says what the code does, row by row."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from disputes.models import Dispute
from disputes.table import RULES, Who

PAGE = Path(settings.BASE_DIR, "docs", "disputes.md").read_text()
S = Dispute.State
GROUPS = {
    "any before a ruling": {S.AWAITING_ANSWER, S.EVIDENCE, S.UNDER_REVIEW, S.AWAITING_APPROVAL},
    "any before final": set(Dispute.LIVE),
}
PEOPLE = {
    "opener": {Who.OPENER}, "respondent": {Who.RESPONDENT}, "either": {Who.OPENER, Who.RESPONDENT},
    "moderator": {Who.MODERATOR}, "senior": {Who.SENIOR}, "*time*": {Who.SYSTEM},
}  # fmt: skip


def lines():
    """Read the rows of the page's first table: number, states, action, people, state."""
    for line in PAGE.splitlines():
        if found := re.fullmatch(
            r"\| (\d+) \| ([^|]+) \| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", line
        ):
            row, origin, action, by, _, to, _ = found.groups()
            states = GROUPS.get(origin) or {state.strip() for state in origin.split(",")}
            people = set().union(*(PEOPLE[name.strip()] for name in by.split(",")))
            yield row, action, frozenset(map(str, states)), frozenset(people), None if to == "–" else to


def test_the_page_is_the_table():
    in_code = [
        (rule.row, str(rule.action), frozenset(map(str, rule.origin)), rule.by, rule.to and str(rule.to))
        for rule in RULES
    ]

    first, *others = lines()

    assert first == ("1", "open", frozenset({"–"}), frozenset(PEOPLE["either"]), "awaiting_answer")
    assert others == in_code


def test_the_page_names_every_state():
    assert [state for state in S.values if state not in PAGE] == []


@pytest.mark.parametrize(
    ("said", "setting", "value"),
    [
        ("`answer_by` in 72 h", "DISPUTE_ANSWER_SECONDS", 72 * 3_600),
        ("evidence closes in 48 h", "DISPUTE_EVIDENCE_SECONDS", 48 * 3_600),
        ("a ruling is due in 72 h", "RULING_SLA_SECONDS", 72 * 3_600),
        ("asked, within 48 h", "DISPUTE_QUESTION_SECONDS", 48 * 3_600),
        ("after 24 h", "RULING_APPROVAL_SLA_SECONDS", 24 * 3_600),
        ("`appeal_by` in 48 h", "APPEAL_SECONDS", 48 * 3_600),
        ("a decision is due in 72 h", "APPEAL_SLA_SECONDS", 72 * 3_600),
        ("30 days after opening", "DISPUTE_HARD_STOP_SECONDS", 30 * 86_400),
        ("180 days after the end", "EVIDENCE_RETENTION_SECONDS", 180 * 86_400),
        ("2 % of the price and at least 1 USDC", "DISPUTE_DEPOSIT_BPS", 200),
        ("at least 1 USDC", "DISPUTE_DEPOSIT_MIN_UNITS", 1_000_000),
        ("`RULING_APPROVAL_THRESHOLD` (100 USDC)", "RULING_APPROVAL_THRESHOLD_UNITS", 100_000_000),
    ],
)
def test_the_page_says_the_defaults(said, setting, value):
    assert said in " ".join(PAGE.split())
    assert getattr(settings, setting) == value
