"""The shapes of answers, for the OpenAPI document. The functions in `rendering` write them."""

from rest_framework import serializers

from marketplace.api.shapes import AvailableAction, DeadlineShape, SettlementShape


class StatementsShape(serializers.Serializer):
    by_client = serializers.CharField(required=False)
    by_seller = serializers.CharField(required=False)


class EvidenceShape(serializers.Serializer):
    number = serializers.IntegerField()
    by = serializers.ChoiceField(choices=["client", "seller"])
    kind = serializers.ChoiceField(choices=["text", "json", "file"])
    content_type = serializers.CharField()
    sha256 = serializers.CharField()
    chain_hash = serializers.CharField()
    size = serializers.IntegerField()
    submitted_at = serializers.DateTimeField()


class QuestionShape(serializers.Serializer):
    id = serializers.UUIDField()
    to = serializers.ChoiceField(choices=["client", "seller"])
    text = serializers.CharField()
    answer = serializers.CharField(allow_null=True)
    asked_at = serializers.DateTimeField()
    answer_by = serializers.DateTimeField()


class RulingShape(serializers.Serializer):
    seller_bps = serializers.IntegerField(allow_null=True)
    redo = serializers.BooleanField()
    bond = serializers.ChoiceField(choices=["client", "seller"])
    deposits = serializers.ChoiceField(choices=["back", "other_side", "penalties"])
    reason_codes = serializers.ListField(child=serializers.CharField())
    reasons = serializers.CharField()
    is_default = serializers.BooleanField()
    ruled_at = serializers.DateTimeField()
    appeal_by = serializers.DateTimeField(allow_null=True)


class DepositShape(serializers.Serializer):
    due = serializers.CharField()
    held = serializers.CharField()
    went = serializers.ChoiceField(choices=["back", "other_side", "penalties"], allow_null=True)


class DisputeShape(serializers.Serializer):
    """A case about one job. Moderators stay anonymous."""

    id = serializers.UUIDField()
    job_id = serializers.UUIDField()
    revision = serializers.IntegerField()
    state = serializers.CharField()
    reason = serializers.CharField()
    opened_by = serializers.ChoiceField(choices=["client", "seller"])
    requested = SettlementShape()
    statements = StatementsShape()
    unanswered = serializers.BooleanField()
    deposit = DepositShape()
    deadline = DeadlineShape(allow_null=True)
    hard_stop_at = serializers.DateTimeField()
    evidence = EvidenceShape(many=True)
    questions = QuestionShape(many=True)
    ruling = RulingShape(required=False)
    available_actions = AvailableAction(many=True)
    created_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
