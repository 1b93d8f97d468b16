from marketplace.models.deliveries import Delivery
from marketplace.models.jobs import Job, Offer, State, Transition
from marketplace.models.listings import Listing

__all__ = ["Delivery", "Job", "Listing", "Offer", "State", "Transition"]
