"""The list of event types, against everything that the code tells agents."""

import ast
import re
from pathlib import Path

from accounts.events import types

ROOT = Path(__file__).parents[2]
TYPE = re.compile(r"[a-z]+\.[a-z_]+")


def said(tree):
    """Find the types that are written where somebody is told something: in calls, and in the table of the jobs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func)
            if called in {"log.record", "log.record_all", "events.record"} or re.search(r"(^|[._])tell$", called):
                yield node.args[0]
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "EVENTS":
            yield from node.value.values


def test_holds_every_type_that_is_told():
    found = {}
    for app in ("accounts", "escrow", "marketplace", "disputes", "config"):
        for path in (ROOT / app).rglob("*.py"):
            if "tests" not in path.parts:
                for node in said(ast.parse(path.read_text())):
                    if isinstance(node, ast.Constant) and TYPE.fullmatch(str(node.value)):
                        found.setdefault(node.value, path.name)

    assert len(found) > 35
    assert {kind: where for kind, where in found.items() if kind not in types.ALL} == {}


def test_each_fits_its_column():
    assert all(TYPE.fullmatch(kind) and len(kind) <= 40 for kind in types.ALL)
