"""A quarrel with something of everything, for tests that look at pages: made by the verbs, at moments before now."""

from datetime import datetime, timedelta
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw

from accounts.models import Agent, User
from disputes import arbitration, cases, deadlines, evidence, precedents
from disputes.decisions import Decision
from disputes.models import Dispute
from disputes.tests.conftest import REASONS
from marketplace import deliveries, jobs, offers, terms
from marketplace.models import Job

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STATEMENT = "The terms ask for a whole book and this is not one: most chapters are missing, and every table is. " * 2


def of_tides_and_ports(client: Agent, seller: Agent, *, now: datetime) -> Dispute:
    """Make a case under review since yesterday: two offers, two deliveries that are one, evidence of every kind."""
    at = now - timedelta(days=4)
    job = _agreed(client, seller, at)
    work = {"chapters": [{"number": n, "summary": f"Chapter {n} follows the harbour …"} for n in (1, 2, 3)]}
    at += 20 * HOUR
    deliveries.deliver(job.id, seller=seller, content=deliveries.from_json(work), note="First part.", at=at)
    at += 2 * HOUR
    deliveries.request_revision(job.id, client=client, reason="Nine chapters and all tables are missing.", at=at)
    at += 5 * HOUR
    deliveries.deliver(job.id, seller=seller, content=deliveries.from_json(work), note="Complete.", at=at)
    opened = cases.open(
        job.id,
        opener=client,
        reason="not_as_agreed",
        statement="Both deliveries hold the first three chapters only, and not one of the twelve tables that the terms"
        " ask for. The second is byte for byte the first.",
        requested_seller_bps=1_000,
        at=at + HOUR,
    )
    cases.answer(
        opened.id,
        by=seller,
        statement="Chapters four to twelve repeat what the first three say; three summaries are the honest length, and"
        " the tables follow from the book itself.",
        requested_seller_bps=10_000,
        at=at + 3 * HOUR,
    )
    at += 4 * HOUR
    text = evidence.from_text("Digests of delivery 1 and 2 are equal: nothing was added after my request.")
    hidden = evidence.from_json({"said": "see chapters.pdf\u202egpj", "pages": [41, 42]})
    evidence.submit(opened.id, by=client, item=text, at=at)
    evidence.submit(opened.id, by=seller, item=hidden, at=at + HOUR / 2)
    evidence.submit(opened.id, by=client, item=evidence.from_file(picture(), "contents.png"), at=at + HOUR)
    return deadlines.enforce(opened.id, at=at + 2 * DAY)


def earlier(
    client: Agent, seller: Agent, *, moderator: User, now: datetime, seller_bps: int, price: int = 50_000_000
) -> Dispute:
    """Make a case that became final ten days ago, and its precedent."""
    at = now - timedelta(days=20)
    agreed = terms.read({"price": price, "title": "A chapter", "delivery_seconds": 86_400})
    job = offers.propose(client, seller, terms=agreed, at=at)
    offers.agree(job.id, by=seller, terms_hash=agreed.hash, at=at)
    jobs.fund(job.id, client=client, at=at)
    deliveries.deliver(job.id, seller=seller, content=deliveries.from_json({"pages": 3}), at=at + HOUR)
    said: dict[str, Any] = {"statement": STATEMENT}
    case = cases.open(job.id, opener=client, reason="not_as_agreed", requested_seller_bps=0, at=at + 2 * HOUR, **said)
    cases.answer(case.id, by=seller, requested_seller_bps=10_000, at=at + 3 * HOUR, **said)
    case = deadlines.enforce(case.id, at=at + 3 * HOUR + 2 * DAY)
    case = arbitration.rule(
        case.id,
        moderator=moderator,
        revision=case.revision,
        decision=Decision(seller_bps=seller_bps, bond_to="seller"),
        reason_codes=["not_as_agreed"],
        reasons=REASONS,
        at=at + 3 * DAY,
    )
    case = deadlines.enforce(case.id, at=at + 10 * DAY)
    precedents.write(case.id)
    return case


def _agreed(client: Agent, seller: Agent, at: datetime) -> Job:
    wanted: dict[str, Any] = {
        "price": 60_000_000,
        "title": "Summaries of the twelve chapters of Tides and Ports",
        "requirements": {"chapters": 12, "words_per_chapter": 400, "figures": "one table per chapter"},
        "delivery_seconds": 172_800,
        "seller_bond": 6_000_000,
    }
    agreed = terms.read(wanted | {"price": 80_000_000, "delivery_seconds": 259_200, "seller_bond": 4_000_000})
    asked = "Twelve chapters, one table each."
    job = offers.propose(client, seller, terms=terms.read(wanted), message=asked, at=at)
    offers.counter(job.id, by=seller, terms=agreed, message="Gladly, with a day more.", at=at + HOUR / 15)
    offers.agree(job.id, by=client, terms_hash=agreed.hash, at=at + HOUR / 6)
    jobs.fund(job.id, client=client, at=at + HOUR / 5)
    return jobs.start(job.id, seller=seller, at=at + HOUR / 4)


def picture(*, kind: str = "PNG") -> bytes:
    """Draw what a client might photograph: a table of contents with nine chapters missing."""
    sheet = Image.new("RGB", (560, 220), "white")
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((8, 8, 551, 211), outline="gray")
    for number in range(1, 13):
        row, column = (number - 1) % 6, (number - 1) // 6
        there = "summary, no table" if number <= 3 else "missing"
        draw.text(
            (30 + 260 * column, 24 + 30 * row), f"Chapter {number}: {there}", fill="black" if number <= 3 else "red"
        )
    file = BytesIO()
    sheet.save(file, kind)
    return file.getvalue()
