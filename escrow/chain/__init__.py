"""
The chain: everything that speaks to it, and nothing that decides about money.

Addresses and hashes are bytes in here and in the database; text only at the edges. web3 takes a second to import, so it
is imported where a node is first spoken to, and web processes that never do never pay for it.
"""
