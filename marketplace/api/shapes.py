"""The shapes of answers, for the OpenAPI document. The functions in `rendering` write them."""

from rest_framework import serializers

from marketplace.terms import AgreedTerms


class Party(serializers.Serializer):
    id = serializers.UUIDField()
    handle = serializers.CharField()


class OfferShape(serializers.Serializer):
    number = serializers.IntegerField()
    author = serializers.ChoiceField(choices=["client", "seller"])
    terms = AgreedTerms()
    terms_hash = serializers.CharField()
    message = serializers.CharField()
    expires_at = serializers.DateTimeField()


class DeadlineShape(serializers.Serializer):
    at = serializers.DateTimeField()
    action = serializers.CharField()
    effect = serializers.CharField(help_text="in plain words: what happens if nobody does anything")


class MoneyShape(serializers.Serializer):
    price = serializers.CharField()
    bond = serializers.CharField()
    held = serializers.CharField()
    fee_bps = serializers.IntegerField()


class DeliverySummary(serializers.Serializer):
    number = serializers.IntegerField()
    sha256 = serializers.CharField()
    size = serializers.IntegerField()
    delivered_at = serializers.DateTimeField()
    checks = serializers.ChoiceField(choices=["pending", "passed", "failed"], allow_null=True)


class Share(serializers.Serializer):
    seller_bps = serializers.IntegerField()


class SettlementShape(serializers.Serializer):
    by_client = Share(required=False)
    by_seller = Share(required=False)


class EffectShape(serializers.Serializer):
    account = serializers.CharField()
    amount = serializers.CharField()


class AvailableAction(serializers.Serializer):
    action = serializers.CharField()
    method = serializers.CharField()
    href = serializers.CharField()
    effects = EffectShape(many=True)


class JobShape(serializers.Serializer):
    """One piece of work between one client and one seller."""

    id = serializers.UUIDField()
    revision = serializers.IntegerField()
    state = serializers.CharField()
    client = Party()
    seller = Party()
    listing_id = serializers.UUIDField(allow_null=True)
    offer = OfferShape()
    agreed_terms_hash = serializers.CharField(allow_null=True)
    awaiting = serializers.ChoiceField(choices=["client", "seller", "moderator"], allow_null=True)
    deadline = DeadlineShape(allow_null=True)
    money = MoneyShape()
    revisions_used = serializers.IntegerField()
    deliveries = DeliverySummary(many=True)
    settlement = SettlementShape()
    dispute_id = serializers.UUIDField(allow_null=True)
    available_actions = AvailableAction(many=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class Step(serializers.Serializer):
    action = serializers.CharField()
    by = serializers.ChoiceField(choices=["client", "seller", "system", "moderator"])
    # `from` is a word of Python: the field is added below.
    to = serializers.CharField()
    occurred_at = serializers.DateTimeField()
    revision = serializers.IntegerField()
    note = serializers.CharField(required=False)


Step._declared_fields["from"] = serializers.CharField(allow_null=True)


class TimelineShape(serializers.Serializer):
    data = Step(many=True)  # type: ignore[assignment]


class DeliveryShape(serializers.Serializer):
    number = serializers.IntegerField()
    sha256 = serializers.CharField()
    size = serializers.IntegerField()
    content_type = serializers.CharField()
    content = serializers.JSONField(required=False)
    filename = serializers.CharField(required=False)
    note = serializers.CharField()
    delivered_at = serializers.DateTimeField()
    check_results = serializers.JSONField(help_text="null until checks have run")


class DeliveryList(serializers.Serializer):
    data = DeliveryShape(many=True)  # type: ignore[assignment]
    next_cursor = serializers.CharField(allow_null=True)


class ListingShape(serializers.Serializer):
    id = serializers.UUIDField()
    seller = Party()
    title = serializers.CharField()
    description = serializers.CharField()
    skills = serializers.ListField(child=serializers.CharField())
    price = serializers.CharField()
    unit = serializers.CharField()
    delivery_seconds = serializers.IntegerField()
    input_schema = serializers.DictField(allow_null=True)
    output_schema = serializers.DictField(allow_null=True)
    default_terms = serializers.DictField(allow_null=True)
    instant = serializers.BooleanField()
    instant_bond = serializers.BooleanField()
    max_open_jobs = serializers.IntegerField(allow_null=True)
    status = serializers.CharField()
    score = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
