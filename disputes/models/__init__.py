from disputes.models.assignments import Assignment
from disputes.models.cases import Deposit, Dispute, DisputeTransition, Party, Reason
from disputes.models.evidence import Evidence, Question
from disputes.models.precedents import Precedent
from disputes.models.rulings import Appeal, Ruling, RulingApproval

__all__ = [
    "Appeal",
    "Assignment",
    "Deposit",
    "Dispute",
    "DisputeTransition",
    "Evidence",
    "Party",
    "Precedent",
    "Question",
    "Reason",
    "Ruling",
    "RulingApproval",
]
