"""What moderators fill in. What it asks is checked again by the verb."""

from typing import Any
from uuid import uuid4

from django import forms

from accounts.models import User
from disputes import approvals, arbitration, assignment, questions
from disputes.console.asking import Once
from disputes.decisions import Decision
from disputes.models import Deposit, Dispute, Party, Reason
from marketplace.models import Job


class SplitForm(forms.Form):
    """The part of a ruling that moves money: what the live preview sends."""

    redo = forms.BooleanField(label="Let the work be done again instead of dividing the price", required=False)
    seller_bps = forms.IntegerField(
        label="Seller's share of the price, in basis points",
        min_value=0,
        max_value=10_000,
        widget=forms.NumberInput(attrs={"step": 1, "inputmode": "numeric"}),
    )
    bond = forms.ChoiceField(
        label="Bond", choices=[(Party.SELLER, "Back to the seller"), (Party.CLIENT, "To the client (forfeited)")]
    )
    deposit = forms.ChoiceField(label="Deposit", choices=Deposit.choices)

    def decision(self) -> Decision:
        cleaned = self.cleaned_data
        return Decision(
            seller_bps=cleaned["seller_bps"],
            bond_to=cleaned["bond"],
            deposit=cleaned["deposit"],
            redo=cleaned["redo"],
        )


class PreviewForm(SplitForm):
    reason_codes = forms.MultipleChoiceField(choices=Reason.choices, required=False)


class RulingForm(SplitForm):
    """
    A first ruling, or on appeal the one that replaces it.

    `key` is the page's: sent twice it counts once. `revision` is the case's as its author read it.
    """

    key = forms.UUIDField(widget=forms.HiddenInput)
    revision = forms.IntegerField(widget=forms.HiddenInput, min_value=0, max_value=2**31 - 1)
    reason_codes = forms.MultipleChoiceField(
        label="What you found", choices=Reason.choices, widget=forms.CheckboxSelectMultiple
    )
    reasons = forms.CharField(
        label="Public reasons",
        min_length=arbitration.MIN_REASONS,
        max_length=arbitration.MAX_REASONS,
        widget=forms.Textarea(attrs={"rows": 7}),
        help_text=f"Both parties read this. At least {arbitration.MIN_REASONS} characters.",
    )
    private_notes = forms.CharField(
        label="Private notes",
        required=False,
        max_length=arbitration.MAX_REASONS,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="For colleagues; never shown to the parties.",
    )

    @classmethod
    def for_case(cls, dispute: Dispute, job: Job, data: Any = None) -> "RulingForm":
        """Make the form of a new page, or of the one that came back."""
        form = cls(
            data,
            initial={
                "key": uuid4(),
                "revision": dispute.revision,
                "seller_bps": 5_000,
                "bond": Party.SELLER,
                "deposit": Deposit.BACK,
                "reason_codes": [],
            },
        )
        if not dispute.bond_units:
            form._offer("bond", Party.SELLER, "There is no bond")
        if not dispute.deposit_due_units:
            form._offer("deposit", Deposit.BACK, "There is no deposit")
        if not job.redos_left:
            form.fields["redo"].disabled = True
            form.fields["redo"].help_text = "The work was done again once already."
        return form

    @classmethod
    def read_anew(cls, dispute: Dispute, job: Job, data: Any) -> "RulingForm":
        """Give back what was typed on a page of the case as it stands now: nobody types reasons twice."""
        again = data.copy()
        again["key"], again["revision"] = str(uuid4()), str(dispute.revision)
        return cls.for_case(dispute, job, again)

    def _offer(self, name: str, value: str, label: str) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 (declared above)
        field.choices = [(value, label)]


# --- the smaller verbs ----------------------------------------------------------------------------------------------
def _reason(
    chars: tuple[int, int] = assignment.REASON_CHARS, help_text: str = "For colleagues. {} to {} characters."
) -> forms.CharField:
    least, most = chars
    return forms.CharField(
        label="Reason",
        min_length=least,
        max_length=most,
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": most}),
        help_text=help_text.format(least, most),
    )


class Recusal(Once):
    reason = _reason()


class Handover(Once):
    to = forms.ChoiceField(label="To whom")
    reason = _reason()

    @classmethod
    def among(cls, people: list[User], data: Any = None, **initial: Any) -> "Once":
        """Offer the colleagues who may decide the case."""
        form = cls.asked(data, **initial)
        field = form.fields["to"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 (declared above)
        field.choices = [(str(person.pk), person.get_username()) for person in people]
        return form


class Asking(Once):
    to = forms.ChoiceField(label="Whom you ask", widget=forms.RadioSelect)
    text = forms.CharField(
        label="Your question",
        min_length=questions.TEXT_CHARS[0],
        max_length=questions.TEXT_CHARS[1],
        widget=forms.Textarea(attrs={"rows": 5, "maxlength": questions.TEXT_CHARS[1]}),
        help_text="Both sides read it, without your name. {:,} to {:,} characters.".format(*questions.TEXT_CHARS),
    )

    @classmethod
    def of_sides(cls, left: dict[str, int], data: Any = None, **initial: Any) -> "Once":
        """Offer the sides that may be asked once more; `left` says how often each."""
        form = cls.asked(data, **initial)
        field = form.fields["to"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 (declared above)
        field.choices = [(side, f"The {side} ({count} left)") for side, count in left.items() if count]
        return form


class Approval(Once):
    reason = forms.CharField(
        label="Remark",
        required=False,
        max_length=approvals.REASON_CHARS[1],
        widget=forms.Textarea(attrs={"rows": 2, "maxlength": approvals.REASON_CHARS[1]}),
        help_text="If you want to leave one for colleagues.",
    )


class Return(Once):
    reason = _reason(approvals.REASON_CHARS, "The author reads why, the parties do not. {} to {:,} characters.")


class Upholding(Once):
    reasons = forms.CharField(
        label="Public reasons",
        min_length=arbitration.MIN_REASONS,
        max_length=arbitration.MAX_REASONS,
        widget=forms.Textarea(attrs={"rows": 7}),
        help_text=f"Both parties read this. At least {arbitration.MIN_REASONS} characters.",
    )
    private_notes = forms.CharField(
        label="Private notes",
        required=False,
        max_length=arbitration.MAX_REASONS,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="For colleagues; never shown to the parties.",
    )
