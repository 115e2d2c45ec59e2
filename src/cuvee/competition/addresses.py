"""Network addresses of visitors and of proxies."""

import ipaddress
from collections.abc import Sequence

IPV6_OF_ONE_VISITOR = 64
"""Bits of an IPv6 address that a visitor cannot choose: a household or a rented machine gets all the rest."""


def is_among(address: str, networks: Sequence[str]) -> bool:
    """Tell whether an address belongs to one of the networks, such as 10.0.0.0/8 or 127.0.0.1."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in ipaddress.ip_network(network) for network in networks)


def visitor_of(address: str) -> str:
    """Return what all addresses of one visitor share: the whole of an IPv4 address, the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, IPV6_OF_ONE_VISITOR), strict=False))
