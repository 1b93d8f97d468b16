"""The two trades, from the proposal to the approval and to the dispute."""

import io
from typing import Any

import redis
from PIL import Image

from config.devstack.demo import kills, outage
from config.devstack.demo.agents import Agent, Refused
from config.devstack.demo.money import short
from config.devstack.demo.narrator import aside, chapter, tell
from config.devstack.demo.streamed import Stream

PRICE, BOND = "25.000000", "2.500000"
ASKED, COUNTERED = "22.000000", PRICE
SECOND_PRICE, SECOND_BOND = "40.000000", "4.000000"


def approved(ada: Agent, bruno: Agent, *, redis_url: str, supervisor: int, stream: Stream) -> None:
    """Trade one: offer, counter-offer, agreement, funding, work, an outage, approval."""
    chapter("Trade one: done and approved")
    listing = bruno.post(
        "/listings",
        {
            "title": "Summary of a paper",
            "description": "One page in plain words, with the three claims that matter and what supports them.",
            "skills": ["summarise"],
            "price": PRICE,
            "unit": "job",
            "delivery_seconds": 3600,
            "status": "active",
        },
    )
    tell("Bruno", f"lists “{listing['title']}” for {short(listing['price'])}")
    found = ada.get("/listings", q="summary of a paper", skill="summarise")["data"]
    tell("Ada", f"searches the catalogue and finds {len(found)} listing{'s' * (len(found) != 1)}")

    terms = {
        "price": ASKED,
        "title": "Summarise a paper on escrow",
        "requirements": {"pages": 1, "language": "en"},
        "delivery_seconds": 3600,
        "review_seconds": 600,
        "seller_bond": BOND,
    }
    job = ada.post("/jobs", {"seller": bruno.id, "listing_id": listing["id"], "terms": terms, "message": "Shall we?"})
    tell("Ada", f"proposes a job at {short(ASKED)}, with a bond of {short(BOND)}")
    job = bruno.post(
        f"/jobs/{job['id']}/offers", {"terms": {**terms, "price": COUNTERED}, "message": "My usual price."}
    )
    tell("Bruno", f"counters at {short(COUNTERED)}")
    job = ada.post(f"/jobs/{job['id']}/agreement", {"terms_hash": job["offer"]["terms_hash"]})
    tell("Ada", f"agrees: both have accepted {job['agreed_terms_hash'][:22]}…")
    _fund(ada, job)

    with redis.Redis.from_url(redis_url) as doorbell:
        doorbell.flushall()
    tell("someone", "wipes Redis (FLUSHALL): rows are the truth, Redis is only the doorbell")
    victims = kills.workers(supervisor=supervisor)
    stream.cut()

    _deliver(bruno, job, {"summary": "Money is held until the work is accepted.", "claims": 3})
    kills.wait_for_other_workers(victims, supervisor=supervisor)
    outage.stand_still(job, of=ada, parties=[ada, bruno])
    job = ada.post(f"/jobs/{job['id']}/approval")
    tell("Ada", f"approves: the job is {job['state']}")
    wallet = bruno.get("/wallet")
    aside(f"Bruno: {short(wallet['available'])} available: price less the fee, and the bond back")


def disputed(ada: Agent, bruno: Agent) -> dict[str, Any]:
    """Trade two, until both sides have said what they have to say; answers the dispute."""
    chapter("Trade two: delivered, disputed")
    terms = {
        "price": SECOND_PRICE,
        "title": "Translate forty pages",
        "requirements": {"from": "it", "to": "en", "pages": 40},
        "delivery_seconds": 3600,
        "review_seconds": 600,
        "seller_bond": SECOND_BOND,
    }
    job = ada.post("/jobs", {"seller": bruno.handle, "terms": terms})
    tell("Ada", f"proposes a second job at {short(SECOND_PRICE)}, with a bond of {short(SECOND_BOND)}")
    job = bruno.post(f"/jobs/{job['id']}/agreement", {"terms_hash": job["offer"]["terms_hash"]})
    tell("Bruno", "agrees")
    _fund(ada, job)
    _deliver(bruno, job, {"pages": 24, "text": "…"})

    opening = {
        "reason": "not_as_agreed",
        "statement": "Forty pages were agreed and twenty-four came. The pages that came are good, the other sixteen are"
        " missing, and the seller says that there will be no more of them.",
        "requested_seller_bps": 2_000,
    }
    dispute = ada.post(f"/jobs/{job['id']}/dispute", opening)
    tell("Ada", "disputes: not as agreed, 20 % of the price would be right. The job's clock stops")
    aside(dispute["deadline"]["effect"])
    answer = {
        "statement": "The source had twenty-four pages of text; the rest were plates without a word. I translated"
        " every sentence there was, in time, and said so when I delivered.",
        "requested_seller_bps": 9_000,
    }
    bruno.post(f"/disputes/{dispute['id']}/answer", answer)
    tell("Bruno", "answers: 90 % would be right")
    _hand_in(ada, dispute, {"kind": "text", "content": "Pages 25 to 40 carry captions."})
    _hand_in(bruno, dispute, ("plate-25.png", _scan(), "image/png"))
    dispute = ada.get(f"/disputes/{dispute['id']}")
    for item in dispute["evidence"]:
        aside(f"evidence {item['number']}, by the {item['by']}, chained to the one before: {item['chain_hash'][:22]}…")
    return dispute


def _hand_in(party: Agent, dispute: dict[str, Any], item: dict[str, Any] | tuple[str, bytes, str]) -> None:
    """Bring a text, or a file `(name, content, type)`."""
    path = f"/disputes/{dispute['id']}/evidence"
    try:
        if isinstance(item, tuple):
            party.upload(path, *item)
            tell(party.name, f"hands in a file: {item[0]}")
        else:
            party.post(path, item)
            tell(party.name, "hands in evidence")
    except Refused as refusal:
        # The window is short here: where a killed process was away for all of it, the case goes on without.
        if refusal.code != "transition_not_allowed":
            raise
        tell(party.name, "comes too late with evidence: its window is over")


def _scan() -> bytes:
    """Draw what the seller shows: a plate without a word."""
    scan = io.BytesIO()
    Image.linear_gradient("L").resize((240, 160)).save(scan, "PNG")
    return scan.getvalue()


def _fund(client: Agent, job: dict[str, Any]) -> None:
    job = client.post(f"/jobs/{job['id']}/funding")
    tell(client.name, f"funds: {short(job['money']['held'])} held, {short(job['money']['bond'])} of bond beside it")
    aside(job["deadline"]["effect"])


def _deliver(seller: Agent, job: dict[str, Any], content: dict[str, Any]) -> None:
    seller.post(f"/jobs/{job['id']}/start")
    job = seller.post(f"/jobs/{job['id']}/deliveries", {"content": content, "note": "As agreed."})
    tell(seller.name, f"starts and delivers (sha256 {job['deliveries'][-1]['sha256'].removeprefix('sha256:')[:12]}…)")
    aside(job["deadline"]["effect"])
