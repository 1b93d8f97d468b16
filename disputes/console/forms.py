"""The ruling as a form. What it asks is checked again by the verb."""

from typing import Any

from django import forms

from disputes import arbitration
from disputes.decisions import Decision
from disputes.models import Deposit, Dispute, Party, Reason


class SplitForm(forms.Form):
    """The part of a ruling that moves money: what the live preview sends."""

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
        return Decision(seller_bps=cleaned["seller_bps"], bond_to=cleaned["bond"], deposit=cleaned["deposit"])


class RulingForm(SplitForm):
    revision = forms.IntegerField(widget=forms.HiddenInput)
    reason_codes = forms.MultipleChoiceField(
        label="Findings", choices=Reason.choices, widget=forms.CheckboxSelectMultiple
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
    def for_case(cls, dispute: Dispute, data: Any = None) -> "RulingForm":
        form = cls(
            data,
            initial={
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
        return form

    def _offer(self, name: str, value: str, label: str) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 (declared above)
        field.choices = [(value, label)]
