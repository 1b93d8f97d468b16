from disputes.models.cases import Deposit, Dispute, DisputeTransition, Party, Reason
from disputes.models.evidence import Evidence, Question
from disputes.models.rulings import Appeal, Ruling, RulingApproval

__all__ = [
    "Appeal",
    "Deposit",
    "Dispute",
    "DisputeTransition",
    "Evidence",
    "Party",
    "Question",
    "Reason",
    "Ruling",
    "RulingApproval",
]
