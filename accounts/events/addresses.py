"""
Which addresses strangers may name: public unicast, and nothing that leads back to us by another way.

Sources: IANA special-purpose address registries (RFC 6890 and its successors), RFC 4291 (2000::/3 is the global
unicast space in use), RFC 5214 (ISATAP). `ipaddress.is_global` of Python 3.11 lets NAT64, 6to4 and site-local pass.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

BLOCKED_4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind carriers' NAT; a metadata service of one cloud is here, too
        "127.0.0.0/8",
        "168.63.129.16/32",  # a public address by its number, the host's own agent on one cloud
        "169.254.0.0/16",  # link-local: metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]

# The rest of IPv6 (mapped and compatible IPv4, 64:ff9b::/96, 64:ff9b:1::/48, fc00::/7, fe80::/10, fec0::/10, ff00::/8)
# lies outside.
_UNICAST_6 = IPv6Network("2000::/3")
_BLOCKED_6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
# The middle of an ISATAP interface id: an IPv4 address follows.
_ISATAP = {0x0000_5EFE, 0x0200_5EFE}


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether a stranger may be reached there."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in BLOCKED_4)
    if address.scope_id is not None or address not in _UNICAST_6:
        return False
    if any(address in network for network in _BLOCKED_6):
        return False
    return int(address) >> 32 & 0xFFFF_FFFF not in _ISATAP
