from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.fields import Id, Shown, Signature, moment
from accounts.edge.fields import Strict, Text
from accounts.edge.pages import page
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from escrow import address_book
from escrow.chain import addresses
from escrow.models import AddressBookEntry


@extend_schema_field({"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"})
class ChainAddress(Text):
    """An address of the chain; written in mixed case, its ERC-55 checksum has to be right."""

    default_error_messages = {"invalid_address": "{reason}"}

    def to_internal_value(self, data: Any) -> Any:
        try:
            return addresses.parse(super().to_internal_value(data))
        except addresses.BadAddress as error:
            self.fail("invalid_address", reason=error)


class NewAddress(Strict):
    """An address to withdraw to, on a challenge for `confirm` signed by any key of the agent."""

    address = ChainAddress()
    label = Shown(max_length=80, required=False, default="", allow_blank=True)  # type: ignore[assignment]
    challenge_id = Id()
    signature = Signature()


class AddressRow(serializers.Serializer):
    id = serializers.UUIDField()
    address = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    usable_at = serializers.DateTimeField(help_text="withdrawing to it is refused before")
    created_at = serializers.DateTimeField()


class Addresses(AgentView):
    scopes = {"GET": "wallet:read", "POST": "withdrawals:write"}

    @documented(responses={200: paged(AddressRow)})
    def get(self, request: Any) -> Response:
        """List the addresses the agent may withdraw to."""
        rows = AddressBookEntry.objects.filter(agent=request.user, removed_at=None)
        return page(request, rows, render=_shown)

    @documented(request=NewAddress, responses={201: AddressRow})
    def post(self, request: Any) -> Response:
        """Add an address; it cools before it can be used."""
        return Response(_shown(address_book.add(request.user, **self.body(NewAddress))), status=201)


class AddressById(AgentView):
    scopes = {"DELETE": "withdrawals:write"}

    @documented(responses={204: None})
    def delete(self, request: Any, entry_id: UUID) -> Response:
        """Take an address out of the book; withdrawals under way to it go on."""
        address_book.remove(entry_id, agent=request.user)
        return Response(status=204)


def _shown(entry: AddressBookEntry) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "address": addresses.to_text(entry.address),
        "label": entry.label,
        "usable_at": moment(entry.usable_at),
        "created_at": moment(entry.created_at),
    }
