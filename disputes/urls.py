"""The disputes of the contract, and the two calls on jobs that must lock a case first."""

from django.urls import path

from disputes.api import disputes, evidence, packs, precedents, settlements

urlpatterns = [
    path("jobs/<uuid:job_id>/dispute", disputes.Opened.as_view()),
    path("jobs/<uuid:job_id>/settlement-offers", settlements.SettlementOffers.as_view()),
    path("disputes", disputes.Disputes.as_view()),
    path("disputes/<uuid:dispute_id>", disputes.DisputeById.as_view()),
    path("disputes/<uuid:dispute_id>/answer", disputes.Answer.as_view()),
    path("disputes/<uuid:dispute_id>/evidence", evidence.EvidenceItems.as_view()),
    path("disputes/<uuid:dispute_id>/evidence/<int:number>/file", evidence.EvidenceFile.as_view()),
    path("disputes/<uuid:dispute_id>/withdrawal", disputes.Withdrawal.as_view()),
    path("disputes/<uuid:dispute_id>/appeal", disputes.Appeals.as_view()),
    path("disputes/<uuid:dispute_id>/answers", disputes.Answers.as_view()),
    path("disputes/<uuid:dispute_id>/pack", packs.Pack.as_view()),
    path("precedents", precedents.Precedents.as_view()),
]
