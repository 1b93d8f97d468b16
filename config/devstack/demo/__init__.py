"""The demo: two agents trade over HTTP, once happily and once through a dispute, from deposit to payout."""
