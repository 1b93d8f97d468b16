"""
A console full of work: cases in every state, agents, money, alerts, and strangers' texts that try to run.

Made by the verbs themselves at chosen moments, so that it looks as it would on an ordinary day.
"""

import io
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from PIL import Image

from accounts import alerts, clock, staff, tokens
from accounts.models import Agent, User
from disputes import appeals, arbitration, assignment, cases, deadlines, evidence, precedents, questions
from disputes.decisions import Decision
from disputes.models import Dispute, Party
from disputes.tests.conftest import REASONS
from escrow.models import AddressBookEntry, TreasuryReading
from marketplace import deliveries, jobs, listings, offers, terms

PASSWORD = "a long enough password"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
# Everything a page must show and never do: markup that closes what it stands in, handlers, templates, links that a
# page would fetch, and characters nobody sees.
POISON = (
    "</pre></textarea></title></script><script>window.ran=1</script><img class=probe src=/ran onerror=window.ran=1>"
    "<svg class=probe onload=window.ran=1><a class=probe href=javascript:window.ran=1>x</a>"
    "' \" onmouseover=window.ran=1 autofocus onfocus=window.ran=1 x={{ 7|add:7 }}{% csrf_token %} "
    "user\u202egnp.exe\u200b http://ran.example/p.png"
)
SHORT = "<img class=probe src=/ran onerror=ran>\u202e"  # 40 characters, as long as a capability may be
STATEMENT = f"The summary covers three of twelve chapters. {POISON} " + "It cannot be used for what was agreed. " * 3


@dataclass
class World:
    """Who is there, and the cases by what they show."""

    mona: User
    max: User
    sue: User
    root: User
    client: Agent
    seller: Agent
    at: datetime
    cases: dict[str, Dispute] = field(default_factory=dict)

    def case(self, name: str) -> Dispute:
        return Dispute.objects.select_related("client", "seller").get(pk=self.cases[name].pk)


def build(make_agent: Any, credit: Any, *, poison: bool = True) -> World:
    """Make it all; without poison the texts are such as people write."""
    staff.prepare_groups()
    person = {
        "mona": ["Moderators"],
        "max": ["Moderators"],
        "sue": ["Senior moderators"],
    }
    people = {name: staff.prepare_account(name, groups=groups, password=PASSWORD) for name, groups in person.items()}
    root = staff.prepare_account("root", groups=[], password=PASSWORD, superuser=True)
    said = POISON if poison else "Twelve chapters, a table of figures each."
    client = make_agent("atlas-research", description=said, capabilities=[SHORT if poison else "research"])
    seller = make_agent("quill-summaries", description=said, capabilities=[SHORT if poison else "summaries"])
    if poison:
        Agent.objects.filter(pk__in=[client.pk, seller.pk]).update(display_name=(SHORT * 2)[:80])
    for agent in (client, seller):
        credit(agent, 5_000_000_000)
        tokens.mint(agent, scopes=["jobs:read", "jobs:write"], label=said[:80])
    world = World(**people, root=root, client=client, seller=seller, at=clock.now())
    _cases(world, said, STATEMENT if poison else f"{said} They are missing, and I asked for them twice already. " * 2)
    _records(world, said)
    return world


def _cases(world: World, said: str, statement: str) -> None:
    def opened(name: str, hours: float, **given: Any) -> Dispute:
        world.cases[name] = _opened(world, said, statement, world.at - hours * HOUR, **given)
        return world.cases[name]

    def reviewed(name: str, hours: float, **given: Any) -> Dispute:
        """Under review for so many hours."""
        case = opened(name, hours + 49, **given)
        _answered(world, case, said, statement, world.at - (hours + 48) * HOUR)
        return deadlines.enforce(case.pk, at=world.at - hours * HOUR)

    def ruled(name: str, by: User, **given: Any) -> Dispute:
        case = reviewed(name, 20, **given)
        plan = {"decision": Decision(seller_bps=3_000, bond_to=Party.SELLER), "reason_codes": ["not_as_agreed"]}
        return arbitration.rule(
            case.pk, moderator=by, revision=case.revision, reasons=REASONS, private_notes=said, at=world.at, **plan
        )

    opened("awaiting_answer", 3)
    _answered(world, opened("evidence", 9), said, statement, world.at - 8 * HOUR)
    reviewed("late", 80)
    reviewed("soon", 50)
    reviewed("calm", 5)
    mine = reviewed("mine", 10)
    assignment.take(mine.pk, moderator=world.mona)
    asked = reviewed("asked", 12)
    question = questions.ask(
        asked.pk, moderator=world.mona, to="seller", text=f"Where are chapters four to twelve? {said}",
        revision=asked.revision, at=world.at - 2 * HOUR,
    )  # fmt: skip
    questions.answer(asked.pk, by=world.seller, question_id=question.pk, text=said, at=world.at - HOUR)
    questions.ask(
        asked.pk, moderator=world.mona, to="client", text="What do you need the tables for?",
        revision=world.case("asked").revision, at=world.at - MINUTE,
    )  # fmt: skip
    ruled("awaiting_approval", world.mona, price=150_000_000)
    ruled("ruled", world.mona)
    for name, price in (("appealed", 40_000_000), ("replacing", 90_000_000)):
        case = ruled(name, world.mona, price=price)
        grounds = f"The tables were never part of what we agreed on. {said}".ljust(120, ".")
        case = appeals.file(case.pk, appellant=world.seller, grounds=grounds, at=world.at)
    worse = Decision(seller_bps=0, bond_to=Party.CLIENT)
    appeals.replace(
        case.pk, senior=world.sue, revision=case.revision, decision=worse, reason_codes=["unusable"], reasons=REASONS,
        private_notes=said, at=world.at,
    )  # fmt: skip
    final = ruled("final", world.max)
    deadlines.enforce(final.pk, at=world.at + 49 * HOUR)
    settled = opened("settled", 4)
    for agent in (world.client, world.seller):
        cases.settle_offer(settled.job_id, by=agent, seller_bps=4_000, at=world.at)
    cases.withdraw(opened("withdrawn", 5).pk, by=world.client, at=world.at)
    precedents.write_due(limit=10)


def _opened(world: World, said: str, statement: str, at: datetime, *, price: int = 50_000_000) -> Dispute:
    wanted = {
        "price": price,
        "title": said[:120],
        "requirements": {"chapters": 12, said[:60]: [said]},
        "delivery_seconds": 864_000,
        "seller_bond": 4_000_000,
    }
    first = terms.read(wanted | {"price": price + 5_000_000, "title": f"First: {said}"[:120]})
    agreed = terms.read(wanted)
    began = at - 20 * HOUR
    job = offers.propose(world.client, world.seller, terms=first, message=said, at=began)
    offers.counter(job.id, by=world.seller, terms=agreed, message=said, at=began + MINUTE)
    offers.agree(job.id, by=world.client, terms_hash=agreed.hash, at=began + 2 * MINUTE)
    jobs.fund(job.id, client=world.client, at=began + 3 * MINUTE)
    jobs.start(job.id, seller=world.seller, at=began + 4 * MINUTE)
    work = deliveries.from_json({"chapters": [1, 2, 3], said[:80]: said})
    deliveries.deliver(job.id, seller=world.seller, content=work, note=said, at=began + 2 * HOUR)
    deliveries.request_revision(job.id, client=world.client, reason=said, at=began + 3 * HOUR)
    drawn = deliveries.from_file(said.encode(), content_type="text/html", filename=f"{said[:60]}.html")
    deliveries.deliver(job.id, seller=world.seller, content=drawn, note=said, at=began + 4 * HOUR)
    return cases.open(
        job.id, opener=world.client, reason="not_as_agreed", statement=statement, requested_seller_bps=1_000, at=at
    )


def _answered(world: World, case: Dispute, said: str, statement: str, at: datetime) -> None:
    cases.answer(case.pk, by=world.seller, statement=statement, requested_seller_bps=10_000, at=at)
    items = (
        (world.client, evidence.from_text(said)),
        (world.seller, evidence.from_json({said[:80]: [said]})),
        (world.client, evidence.from_file(_png(), f"{said[:80].replace('/', '')}.png")),
        (world.seller, evidence.from_file(b"%PDF-1.4 nothing", "terms\u202efdp.pdf")),
    )
    for number, (by, item) in enumerate(items, 1):
        evidence.submit(case.pk, by=by, item=item, at=at + number * MINUTE)


def _png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (160, 90), (11, 93, 91)).save(out, "PNG")
    return out.getvalue()


def _records(world: World, said: str) -> None:
    """What stands around the cases: a listing, an address, alerts, readings of the treasury."""
    listings.create(
        world.seller, title=said[:120], description=said, price_units=12_000_000, skills=[SHORT], delivery_seconds=3_600
    )
    AddressBookEntry.objects.create(
        agent=world.seller, address=b"\x21" * 20, label=said[:80], created_at=world.at, usable_at=world.at
    )
    alerts.sound("relayer_gas_low", "0x2121", detail="A relayer has gas for an hour.", at=world.at)
    for day in range(30):
        units = 4_000_000_000 + day * 210_000_000
        TreasuryReading.objects.create(
            chain_id=31337, block_number=1_000 + day, block_at=world.at - (29 - day) * 24 * HOUR, treasury_units=units,
            cold_units=0, unswept_units=0, custody_units=units, liabilities_units=units - 1_000_000 * day,
            shortfall_units=0, difference_units=0, pending_units=0, read_at=world.at - (29 - day) * 24 * HOUR,
        )  # fmt: skip
