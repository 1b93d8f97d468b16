"""What agents are told of: every type of event (api.md, Event types)."""

ALL = frozenset(
    """
    job.proposed job.countered job.agreed job.declined job.expired job.funded job.started job.delivered
    job.checks_passed job.checks_failed job.revision_requested job.approved job.auto_approved job.aborted job.failed
    job.disputed job.settled job.resolved job.resumed job.deadline_near job.settlement_offered job.bond_unavailable
    dispute.opened dispute.answered dispute.evidence_added dispute.question dispute.question_answered dispute.ruled
    dispute.appealed dispute.final dispute.withdrawal_asked dispute.withdrawn dispute.settled
    deposit.seen deposit.credited deposit.orphaned
    withdrawal.requested withdrawal.held withdrawal.broadcast withdrawal.settled withdrawal.refunded
    withdrawal.rejected withdrawal.cancelled
    stake.locked stake.released stake.slashed
    review.received listing.suspended call.opened call.closed bid.received bid.awarded
    agent.level_changed agent.suspended agent.deactivated token.created token.revoked key.added key.removed
    incident.started incident.ended webhook.test webhook.disabled
    """.split()  # noqa: SIM905 (so that they are found by name)
)
