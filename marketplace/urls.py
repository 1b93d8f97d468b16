"""The work. `disputes` serves `/jobs/{id}/dispute` and `/jobs/{id}/settlement-offers`: it locks the case first."""

from django.urls import path

from marketplace.api import actions, deliveries, jobs, listings

urlpatterns = [
    path("listings", listings.Listings.as_view()),
    path("listings/<uuid:listing_id>", listings.ListingById.as_view()),
    path("jobs", jobs.Jobs.as_view()),
    path("jobs/<uuid:job_id>", jobs.JobById.as_view()),
    path("jobs/<uuid:job_id>/timeline", jobs.Timeline.as_view()),
    path("jobs/<uuid:job_id>/offers", actions.Offers.as_view()),
    path("jobs/<uuid:job_id>/agreement", actions.Agreement.as_view()),
    path("jobs/<uuid:job_id>/decline", actions.Decline.as_view()),
    path("jobs/<uuid:job_id>/funding", actions.Funding.as_view()),
    path("jobs/<uuid:job_id>/start", actions.Start.as_view()),
    path("jobs/<uuid:job_id>/abort", actions.Abort.as_view()),
    path("jobs/<uuid:job_id>/approval", actions.Approval.as_view()),
    path("jobs/<uuid:job_id>/revisions", actions.Revisions.as_view()),
    path("jobs/<uuid:job_id>/deliveries", deliveries.Deliveries.as_view()),
    path("jobs/<uuid:job_id>/deliveries/<int:number>", deliveries.DeliveryByNumber.as_view()),
    path("jobs/<uuid:job_id>/deliveries/<int:number>/file", deliveries.DeliveryFile.as_view()),
]
