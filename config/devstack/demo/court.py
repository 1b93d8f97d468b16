"""A moderator rules, through the form every moderator uses; then the window for an appeal passes."""

import time
from typing import Any

import httpx2

from config.devstack.demo.agents import PATIENCE_SECONDS, Agent, NeverHappened
from config.devstack.demo.browsing import Browser, Form, Page
from config.devstack.demo.money import short
from config.devstack.demo.narrator import aside, chapter, entry, tell

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


def decide(ada: Agent, bruno: Agent, dispute: dict[str, Any], *, web_url: str, moderator: dict[str, str]) -> None:
    """From the closing of the evidence to the final ruling."""
    chapter("A person decides")
    path = f"/disputes/{dispute['id']}"
    tell("Bailee", "waits for the evidence window to close")
    ada.until(path, lambda case: case["state"] == "under_review", what="the end of the evidence window")
    _rule(ada, path, dispute["id"], web_url=web_url, moderator=moderator)
    ruled = ada.get(path)
    if ruled["ruling"]["is_default"]:
        raise NeverHappened("the moderator's ruling: the default was taken in its place")
    tell(
        "moderator",
        f"rules: {ruled['ruling']['seller_bps'] / 100:g} % of the price to the seller; appeal until it is final",
    )
    aside(f"appeal by {ruled['ruling']['appeal_by']}; no money has moved")
    ada.until(path, lambda case: case["state"] == "final", what="the end of the appeal window")
    job = bruno.until(f"/jobs/{dispute['job_id']}", lambda job: job["state"] == "resolved", what="the resolved job")
    tell("Bailee", f"executes the ruling: the job is {job['state']}")
    for agent in (ada, bruno):
        aside(f"{agent.name}: {short(agent.get('/wallet')['available'])} available")


def _rule(witness: Agent, path: str, case_id: str, *, web_url: str, moderator: dict[str, str]) -> None:
    """Rule in the admin. If the line breaks, begin anew: a ruling that was made stands, a second changes nothing."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    browser = Browser(web_url)
    while witness.get(path)["state"] == "under_review":
        try:
            _rule_once(browser, case_id, moderator)
        except httpx2.TransportError:
            time.sleep(0.5)
        if time.monotonic() > give_up:
            raise NeverHappened(f"the ruling: the admin did not answer for {PATIENCE_SECONDS:.0f} s")


def _rule_once(browser: Browser, case_id: str, moderator: dict[str, str]) -> None:
    page = browser.open(f"/admin/cases/{case_id}/")
    if page.url.partition("?")[0].endswith("/login/"):
        # Django's login form has no action of its own: it answers to the address of its page.
        page = browser.send(
            page, _needed(page, page.url), username=moderator["username"], password=moderator["password"]
        )
        tell("moderator", f"signs in to the admin as {moderator['username']} and reads the whole case on one page")
    if form := page.form(f"/cases/{case_id}/take/"):
        page = browser.send(page, form)
        tell("moderator", "takes the case")
    review = browser.send(page, _needed(page, f"/cases/{case_id}/ruling/"), **RULING)
    confirmation = _needed(review, f"/cases/{case_id}/ruling/confirm/")
    tell("moderator", "fills in the ruling and sees, before it counts, every entry that it will post:")
    for account, amount in review.entries:
        entry(account, amount)
    browser.send(review, confirmation)


def _needed(page: Page, ending: str) -> Form:
    if form := page.form(ending):
        return form
    raise NeverHappened(f"the form {ending} on {page.url} ({page.status}); the page says: {page.errors or 'nothing'}")
