"""What treasurers fill in. What it asks is checked again by the verb."""

from typing import Any, Self
from uuid import uuid4

from django import forms

from accounts import text
from accounts.edge.fields import units_from_text, units_to_text
from accounts.models import Agent
from escrow.chain import addresses

MAX_REASON = 500


class Amount(forms.CharField):
    """Decimal USDC, as micro-USDC."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            max_length=20, widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}), **options
        )

    def clean(self, value: Any) -> int:
        given = super().clean(value)
        try:
            units = units_from_text(given)
        except ValueError:
            units = 0
        if not units:
            raise forms.ValidationError("An amount of USDC, like 12.5, with at most six digits after the point.")
        return units

    def prepare_value(self, value: Any) -> Any:
        return units_to_text(value) if isinstance(value, int) else value


class Address(forms.CharField):
    """An address of the chain, as 20 bytes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            max_length=42,
            widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false", "autocomplete": "off"}),
            **options,
        )

    def clean(self, value: Any) -> bytes:
        try:
            return addresses.parse(super().clean(value))
        except addresses.BadAddress as error:
            raise forms.ValidationError(f"This is no address to pay to: {error}.") from None


class Once(forms.Form):
    """
    What makes a yes count once; a form that asks for more says so below it.

    `key` is the page's: the same page sent twice is one yes. `revision` is the row's as the person saw it.
    """

    key = forms.UUIDField(widget=forms.HiddenInput)
    revision = forms.IntegerField(widget=forms.HiddenInput, min_value=0, max_value=2**31 - 1)

    @classmethod
    def asked(cls, data: Any = None, *, revision: int = 0, **initial: Any) -> Self:
        """Make the form of a new page, or of the one that came back."""
        return cls(data, initial={"key": uuid4(), "revision": revision, **initial})


class Sure(Once):
    """A reason besides."""

    reason = forms.CharField(
        label="Reason",
        max_length=MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": MAX_REASON}),
        help_text="Kept with your name, for ever.",
    )


class PlatformPayout(Sure):
    amount = Amount(label="Amount, USDC")
    address = Address(label="To")
    field_order = ["key", "revision", "amount", "address", "reason"]


class Amounted(Sure):
    amount = Amount(label="Amount, USDC")
    field_order = ["key", "revision", "amount", "reason"]


class Attribution(Sure):
    agent = forms.ChoiceField(label="Whose payout it was")
    field_order = ["key", "revision", "agent", "reason"]

    @classmethod
    def among(cls, agents: list[Agent], data: Any = None, **initial: Any) -> "Sure":
        """Offer the agents that know the receiver's address."""
        form = cls.asked(data, **initial)
        field = form.fields["agent"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101 (declared above)
        field.choices = [(str(agent.pk), text.visible(agent.handle)) for agent in agents]
        return form
