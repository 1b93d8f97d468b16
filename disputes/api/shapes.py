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
    filename = serializers.CharField(allow_null=True)
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
    answered_at = serializers.DateTimeField(allow_null=True)


class RulingShape(serializers.Serializer):
    seller_bps = serializers.IntegerField(allow_null=True)
    redo = serializers.BooleanField()
    bond = serializers.ChoiceField(choices=["client", "seller"])
    deposits = serializers.ChoiceField(choices=["back", "other_side", "penalties"])
    reason_codes = serializers.ListField(child=serializers.CharField())
    reasons = serializers.CharField()
    is_default = serializers.BooleanField()
    on_appeal = serializers.BooleanField()
    ruled_at = serializers.DateTimeField()
    appeal_by = serializers.DateTimeField(allow_null=True)


class DepositShape(serializers.Serializer):
    due = serializers.CharField()
    held = serializers.CharField()
    went = serializers.ChoiceField(choices=["back", "other_side", "penalties"], allow_null=True)


class AppealShape(serializers.Serializer):
    by = serializers.ChoiceField(choices=["client", "seller"])
    grounds = serializers.CharField()
    filed_at = serializers.DateTimeField()
    decide_by = serializers.DateTimeField()
    outcome = serializers.ChoiceField(choices=["upheld", "replaced", "lapsed"], allow_null=True)
    reasons = serializers.CharField(allow_null=True)
    decided_at = serializers.DateTimeField(allow_null=True)
    deposit = DepositShape()


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
    awaiting = serializers.ChoiceField(choices=["client", "seller", "moderator"], allow_null=True)
    deadline = DeadlineShape(allow_null=True)
    hard_stop_at = serializers.DateTimeField()
    withdrawal_asked_at = serializers.DateTimeField(allow_null=True)
    evidence = EvidenceShape(many=True)
    evidence_erased_at = serializers.DateTimeField(allow_null=True)
    questions = QuestionShape(many=True)
    ruling = RulingShape(required=False)
    appeal = AppealShape(required=False)
    available_actions = AvailableAction(many=True)
    created_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
