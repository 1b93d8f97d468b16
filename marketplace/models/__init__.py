from marketplace.models.deliveries import Delivery
from marketplace.models.incidents import Heartbeat, Incident, Standstill
from marketplace.models.jobs import Job, Offer, State, Transition
from marketplace.models.listings import Listing

__all__ = ["Delivery", "Heartbeat", "Incident", "Job", "Listing", "Offer", "Standstill", "State", "Transition"]
