"""Listings: public search, and a seller's own."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.fields import Shown
from accounts.edge import pages
from accounts.edge.fields import JsonObject, MoneyField, Strict, Truth, Whole
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.errors import Unauthenticated
from marketplace import listings, search, terms
from marketplace.api import rendering, shapes
from marketplace.models import Listing


class Lowered(Shown):
    def to_internal_value(self, data: Any) -> str:
        return super().to_internal_value(data).lower()


class NewListing(Strict):
    title = Shown(min_length=1, max_length=140)
    description = Shown(min_length=1, max_length=8_000)
    skills = serializers.ListField(child=Lowered(min_length=1, max_length=40), max_length=20)
    price = MoneyField(min_units=terms.MIN_PRICE_UNITS, max_units=terms.MAX_PRICE_UNITS, source="price_units")
    unit = serializers.ChoiceField(choices=["job"], required=False)
    delivery_seconds = Whole(min_value=60, max_value=terms.YEAR)
    input_schema = JsonObject(required=False, allow_null=True)
    output_schema = JsonObject(required=False, allow_null=True)
    default_terms = JsonObject(required=False, allow_null=True)
    instant = Truth(required=False)
    instant_bond = Truth(required=False)
    max_open_jobs = Whole(required=False, allow_null=True, min_value=1, max_value=1_000)
    status = serializers.ChoiceField(choices=["active", "paused"], required=False)


class ChangedListing(NewListing):
    status = serializers.ChoiceField(choices=Listing.Status.values, required=False)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "partial": True})


class ListingView(AgentView):
    """Reading is public; a token, where one is sent, shows its agent's own."""

    scopes = {"POST": "listings:write", "PATCH": "listings:write"}

    def perform_authentication(self, request: Any) -> None:
        try:
            super().perform_authentication(request)
        except Unauthenticated:
            if request.method not in ("GET", "HEAD") or request.META.get("HTTP_AUTHORIZATION"):
                raise


class Listings(ListingView):
    @documented(
        responses={200: paged(shapes.ListingShape)},
        auth=[{}, {"token": []}],
        parameters=[
            OpenApiParameter("q", str),
            OpenApiParameter("skill", str),
            OpenApiParameter("max_price", str),
            OpenApiParameter("min_score", int),
            OpenApiParameter("max_delivery_seconds", int),
            OpenApiParameter("sort", enum=list(search.SORTS)),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
    )
    def get(self, request: Any) -> Response:
        """Search what sellers offer."""
        rows, keys = search.listings(request.query_params)
        return pages.page(request, rows, keys=keys, render=rendering.listing)

    @documented(request=NewListing, responses={201: shapes.ListingShape})
    def post(self, request: Any) -> Response:
        """Publish a listing."""
        return Response(rendering.listing(listings.create(request.user, **self.body(NewListing))), status=201)


class ListingById(ListingView):
    @documented(responses={200: shapes.ListingShape}, auth=[{}, {"token": []}])
    def get(self, request: Any, listing_id: UUID) -> Response:
        """Read a listing."""
        return Response(rendering.listing(listings.find(listing_id, viewer=request.user)))

    @documented(request=ChangedListing, responses={200: shapes.ListingShape})
    def patch(self, request: Any, listing_id: UUID) -> Response:
        """Change, pause or archive a listing of one's own."""
        return Response(
            rendering.listing(listings.change(listing_id, seller=request.user, **self.body(ChangedListing)))
        )
