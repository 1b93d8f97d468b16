"""
The page that asks once more before something happens, the same for every verb.

A page has a key: sent twice, by a double click or by the browser's reload, it counts once. The row's revision is the
verb's to check.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from accounts import idempotency
from accounts.edge.retries import retrying
from accounts.errors import DomainError
from accounts.models import IdempotencyRecord
from escrow.console.forms import Sure

TRIES, PAUSE_SECONDS = 40, 0.1  # while the first of two clicks is under way

Answer = TypeVar("Answer")


class Question(NamedTuple):
    """What is asked, and what a yes does."""

    title: str
    button: str
    effect: str  # what will happen, in a sentence
    facts: list[tuple[str, str]]
    form: Callable[..., Sure]
    act: Callable[[dict[str, Any]], Any]  # one verb, given what the form said
    done: str
    revision: int = 0
    # what was typed is shown back before it counts, in these words
    typed: Callable[[dict[str, Any]], list[tuple[str, str]]] | None = None
    # the verb asks the chain, so no transaction may be around it
    asks_the_chain: bool = False

    @property
    def is_typed(self) -> bool:
        return self.typed is not None


class DoneBefore(Exception):
    """The same page was sent before."""


def ask(request: Any, question: Question) -> HttpResponse:
    """Show the question, or do what it asks about."""
    if request.method != "POST":
        return _page(request, question, question.form(revision=question.revision))
    form = question.form(request.POST, revision=question.revision)
    if not form.is_valid() or "change" in request.POST:
        return _page(request, question, form)
    if question.typed is not None and "sure" not in request.POST:
        return _page(request, question, form, typed=question.typed(form.cleaned_data))
    try:
        do_once(request, form, question.act, asks_the_chain=question.asks_the_chain)
    except DoneBefore:
        messages.info(request, f"{question.done} Your second click changed nothing.")
    except DomainError as refusal:
        return _refused(request, question, form, refusal)
    else:
        messages.success(request, question.done)
    return to_treasury()


def to_treasury() -> HttpResponse:
    return HttpResponseRedirect(reverse("admin:treasury"))


def page(request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
    request.current_app = admin.site.name
    return TemplateResponse(
        request, template, admin.site.each_context(request) | {"is_nav_sidebar_enabled": False} | context
    )


def do_once(
    request: Any, form: forms.Form, act: Callable[[dict[str, Any]], Answer], *, asks_the_chain: bool = False
) -> Answer:
    """
    Call a verb with what a form said, once for each page (the form's `key`); answer what the verb does.

    :raises DoneBefore: if this page was sent before
    """
    once = _claimed if asks_the_chain else _together
    page_key = _PageKey(
        scope=f"console:{request.user.pk}",
        key=str(form.cleaned_data["key"]),
        fingerprint=idempotency.fingerprint_of(
            "POST", request.path, {name: request.POST.getlist(name) for name in form.fields if name in request.POST}
        ),
    )
    for _ in range(TRIES):
        try:
            return once(page_key, lambda: act(form.cleaned_data))
        except idempotency.KeyInProgress:
            time.sleep(PAUSE_SECONDS)
    raise idempotency.KeyInProgress("Your first click is still under way: look again in a moment.")


class _PageKey(NamedTuple):
    scope: str
    key: str
    fingerprint: bytes


def _together(key: _PageKey, act: Callable[[], Answer]) -> Answer:
    """Do it and remember the page in one transaction: neither is without the other."""

    @transaction.atomic
    def both() -> Answer:
        _require_new(key)
        answer = act()
        idempotency.remember(**key._asdict(), answer=_DONE, keep=True)
        return answer

    return retrying(both)


def _claimed(key: _PageKey, act: Callable[[], Answer]) -> Answer:
    """
    Claim the page, do it, write down that it is done. What is refused gives the page back.

    Killed in the middle, it stays claimed: whoever asked has to look, and nothing is done twice.
    """
    with transaction.atomic():
        _require_new(key)
        idempotency.remember(**key._asdict(), answer=_UNDER_WAY, keep=True)
    claim = IdempotencyRecord.objects.filter(scope=key.scope, key=key.key)
    try:
        answer = retrying(act)
    except DomainError:
        claim.delete()
        raise
    claim.update(status=_DONE.status)
    return answer


_DONE, _UNDER_WAY = idempotency.Answer(200, None), idempotency.Answer(202, None)


def _require_new(key: _PageKey) -> None:
    """
    Go on only with a page that was never sent.

    :raises DoneBefore, KeyInProgress: if it was
    """
    earlier = idempotency.earlier_answer(**key._asdict())
    if earlier is None:
        return
    if earlier.status == _UNDER_WAY.status:
        raise idempotency.KeyInProgress
    raise DoneBefore


def _refused(request: Any, question: Question, form: Sure, refusal: DomainError) -> HttpResponse:
    """Say why not: beside what was typed, or, where nothing was, on the page that shows how things stand now."""
    if question.typed is None:
        messages.error(request, refusal.detail)
        return to_treasury()
    form.add_error(None, refusal.detail)
    return _page(request, question, form)


def _page(request: Any, question: Question, form: Sure, *, typed: list[tuple[str, str]] | None = None) -> HttpResponse:
    return page(request, "admin/treasury/ask.html", title=question.title, question=question, form=form, typed=typed)
