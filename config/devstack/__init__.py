"""The local stack: embedded PostgreSQL, Redis and chain, and Bailee's own processes, as children of one supervisor."""
