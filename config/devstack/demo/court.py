"""One person rules and another approves, by the forms every moderator uses; then the window for an appeal passes."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import httpx2
import psycopg

from config.devstack import people
from config.devstack.demo.agents import PATIENCE_SECONDS, Agent, NeverHappened
from config.devstack.demo.money import short, text
from config.devstack.demo.narrator import aside, chapter, entry, tell
from config.devstack.demo.staff import Person, holder_of

# What the moderator fills in.
RULING: dict[str, str | list[str]] = {
    "seller_bps": "4000",
    "bond": "seller",
    "reason_codes": ["not_as_agreed"],
    "reasons": "The terms name forty pages and say nothing of plates. Twenty-four pages came in time and nobody"
    " complains of their quality; the captions of the other sixteen, which the client's evidence shows, were left out"
    " without asking. Forty per cent of the price pays for what can be used. The bond goes back: nothing was delivered"
    " late, and the seller answered at once.",
}
# Those who may be asked for the second word, whoever of them did not rule.
SECONDS = ("senior", "second_senior", "moderator")
Entries = list[tuple[str, str]]


class PostedOtherwise(Exception):
    """What moved is not what the moderator was shown."""


def decide(ada: Agent, bruno: Agent, dispute: dict[str, Any], *, stack: dict[str, Any]) -> None:
    """
    From the closing of the evidence to the final ruling.

    :raises PostedOtherwise: if the money does not move as it was shown before it counted
    """
    chapter("People decide")
    path = f"/disputes/{dispute['id']}"
    staff = {role: Person(stack["web_url"], stack[role]) for role in people.ROLES if role != "treasurer"}
    tell("Bailee", "waits for the evidence window to close")
    ada.until(path, lambda case: case["state"] != "evidence", what="the end of the evidence window")
    case_id = dispute["id"]
    author = staff[_holder(staff["admin"], case_id)]
    shown: list[Entries] = []
    _until_it_is(ada, path, "awaiting_approval", lambda: _rule(author, case_id, shown))
    if ada.get(path).get("ruling"):
        raise NeverHappened("a ruling that waits for a second person before the parties read it")
    aside("price and bond reach the amount above which a second person must agree; the parties are told nothing yet")
    second = next(staff[role] for role in SECONDS if staff[role] is not author)
    ruled = _until_it_is(ada, path, "ruled", lambda: _approve(second, case_id))
    if ruled["ruling"]["is_default"]:
        raise NeverHappened("the moderator's ruling: the default was taken in its place")
    aside(f"appeal by {ruled['ruling']['appeal_by']}; no money has moved")
    ada.until(path, lambda case: case["state"] == "final", what="the end of the appeal window")
    job = bruno.until(f"/jobs/{dispute['job_id']}", lambda job: job["state"] == "resolved", what="the resolved job")
    tell("Bailee", f"executes the ruling: the job is {job['state']}")
    _compare(shown[-1], _posted(job["id"], ada, bruno, database_url=stack["database_url"]))
    for agent in (ada, bruno):
        _told(agent, dispute["id"])


# --- what people do -------------------------------------------------------------------------------------------------
def _holder(reader: Person, case_id: str) -> str:
    """Find out who was given the case: its page says so to whoever may see cases."""
    name = None
    give_up = time.monotonic() + PATIENCE_SECONDS
    while name is None:
        with contextlib.suppress(httpx2.TransportError):
            name = holder_of(reader.open(f"/admin/cases/{case_id}/"))
        if time.monotonic() > give_up:
            raise NeverHappened(f"the assignment of the case within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.5)
    tell("Bailee", f"has given the case to {name}, who has the fewest and no tie to either side")
    return name


def _rule(author: Person, case_id: str, shown: list[Entries]) -> None:
    """Rule in the admin, and remember the entries that the moderator was shown."""
    page = author.open(f"/admin/cases/{case_id}/")
    tell(author.name, "reads the whole case on one page: terms, deliveries, evidence, findings, similar cases")
    review = author.send(page, f"/cases/{case_id}/ruling/", **RULING)
    tell(author.name, "fills in the ruling and sees, before it counts, every entry that it will post:")
    for account, amount in review.entries:
        entry(account, amount)
    shown.append(review.entries)
    author.send(review, f"/cases/{case_id}/ruling/confirm/")
    tell(author.name, f"rules: {int(str(RULING['seller_bps'])) / 100:g} % of the price to the seller")


def _approve(second: Person, case_id: str) -> None:
    asking = second.open(f"/admin/cases/{case_id}/approve/")
    page = second.send(asking, f"/cases/{case_id}/approve/", reason="The terms say forty pages; I read them alike.")
    if page.errors:
        raise NeverHappened(f"the approval by {second.name}: {page.errors}")
    tell(second.name, "reads ruling and reasons, and agrees: now the ruling stands, and both parties are told")


def _until_it_is(witness: Agent, path: str, state: str, act: Callable[[], None]) -> dict[str, Any]:
    """
    Do something until the case is in a state. Where the line breaks, begin anew: what was done stands, once.

    :raises NeverHappened: if it was done and did not count, or the admin does not answer
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    while (case := witness.get(path))["state"] != state:
        try:
            act()
        except httpx2.TransportError:
            time.sleep(0.5)
        if time.monotonic() > give_up:
            raise NeverHappened(f"the case {state} within {PATIENCE_SECONDS:.0f} s: it is {case['state']}")
    return case


# --- what came of it ------------------------------------------------------------------------------------------------
def _posted(job_id: str, ada: Agent, bruno: Agent, *, database_url: str) -> Entries:
    """Read the one transfer of the ruling in the ledger, with the names that the admin gives to its accounts."""
    names = {("available", ada.id): "Client", ("available", bruno.id): "Seller"}
    kinds = {"hold": "Held price", "bond": "Held bond", "fees": "Platform fee"}
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT account.kind, account.owner_key, entry.amount FROM escrow_entry entry"
            " JOIN escrow_transfer transfer ON transfer.id = entry.transfer_id"
            " JOIN escrow_ledgeraccount account ON account.id = entry.account_id"
            " WHERE transfer.reference = %s ORDER BY entry.id",
            [f"job:{job_id}:close"],
        ).fetchall()
    return [(names.get((kind, owner)) or kinds.get(kind) or str(kind), _signed(units)) for kind, owner, units in rows]


def _compare(shown: Entries, posted: Entries) -> None:
    if sorted(shown) != sorted(posted):
        raise PostedOtherwise(f"The ruling posted {posted}, and the moderator was shown {shown}.")
    aside(f"the ledger has one transfer for it: the {len(posted)} entries that the moderator was shown, to the digit")


def _told(agent: Agent, dispute_id: str) -> None:
    """Show what an agent was told about its case, and what it reads there: why, and never by whom."""
    events = agent.get("/events", types="dispute.ruled,dispute.final,job.resolved", limit=100)["data"]
    told = [event["type"] for event in events if event["data"].get("dispute_id", dispute_id) == dispute_id]
    if not {"dispute.ruled", "dispute.final"} <= set(told):
        raise NeverHappened(f"{agent.name} told of the ruling; its events are {told}")
    ruling = agent.get(f"/disputes/{dispute_id}")["ruling"]
    tell(agent.name, f"was told ({', '.join(told)}) and reads why: “{ruling['reasons'][:60]}…”")
    aside(f"{short(agent.get('/wallet')['available'])} available")


def _signed(units: int) -> str:
    return f"+{text(units)}" if units > 0 else text(units).replace("-", "−")
