"""
The page that asks once more before staff do something to a case, an agent or whatever else has a page.

`ask(request, question, *, back)` shows `templates/admin/ask.html`, or does what it asks about and goes to `back`. The
page has a key: sent twice, by a double click, the browser's reload or its back button, it counts once. The row's
revision is the verb's to check. What is refused comes back with what was typed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect

from accounts import idempotency
from accounts.errors import DomainError
from escrow.console.asking import DoneBefore, do_once, page
from escrow.console.forms import MAX_REASON, Once

__all__ = ["DoneBefore", "Once", "Question", "Reasoned", "ask", "do_once", "page"]

USED_UP = "This page was sent before, with something else on it; nothing was changed now. Open it anew."


class Reasoned(Once):
    reason = forms.CharField(
        label="Reason",
        max_length=MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": MAX_REASON}),
        help_text="For colleagues; kept with your name, for ever.",
    )


class Question(NamedTuple):
    """What is asked, and what a yes does."""

    title: str
    button: str
    effect: str  # what will happen, in a sentence
    facts: list[tuple[str, str]]
    form: Callable[..., Once]  # called with the data (or nothing) and `revision=`: `Once.asked`, `Reasoned.asked`
    act: Callable[[dict[str, Any]], Any]  # one verb, given what the form said
    done: str | Callable[[Any], str]  # what is said afterwards; may depend on what the verb answered
    revision: int = 0
    # the way here: (name, address), from the desk on
    crumbs: tuple[tuple[str, str], ...] = ()


def ask(
    request: Any, question: Question, *, back: str, then: Callable[[Any], str] | None = None, template: str = ""
) -> HttpResponse:
    """
    Show the question (GET), or do what it asks about (POST) and go to `back`.

    `back` is an address; `then(answer)` gives another one for what the verb answered. `template` is shown instead of
    `admin/ask.html`.
    """
    if request.method != "POST":
        return _page(request, question, question.form(revision=question.revision), back, template)
    form = question.form(request.POST, revision=question.revision)
    if not form.is_valid():
        return _page(request, question, form, back, template)
    try:
        answer = do_once(request, form, question.act)
    except DoneBefore:
        messages.info(request, "That was done already: your second click changed nothing.")
    except idempotency.KeyReused:
        messages.error(request, USED_UP)
    except DomainError as refusal:
        if form.visible_fields():
            return _page(request, question, _as_it_is_now(request, question, refusal), back, template)
        messages.error(request, refusal.detail)
    else:
        messages.success(request, question.done if isinstance(question.done, str) else question.done(answer))
        return HttpResponseRedirect(then(answer) if then else back)
    return HttpResponseRedirect(back)


def _as_it_is_now(request: Any, question: Question, refusal: DomainError) -> Once:
    """Give back what was typed, about the row as the page shows it now, with the reason for the refusal."""
    typed = request.POST.copy()
    typed["revision"] = str(question.revision)
    form = question.form(typed, revision=question.revision)
    form.is_valid()
    form.add_error(None, refusal.detail)
    return form


def _page(request: Any, question: Question, form: Once, back: str, template: str) -> HttpResponse:
    return page(request, template or "admin/ask.html", title=question.title, question=question, form=form, back=back)
