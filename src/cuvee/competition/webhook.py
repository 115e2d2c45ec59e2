"""A webhook that tells the organiser something.

The address stands in `private/server.yaml`, so whoever has a token alone cannot set it. It leads to public addresses by
HTTPS; to others, and by HTTP, only within networks that the file names. The name is looked up once, and the connection
goes to the address that was looked at, so a name that changes in between leads nowhere else. Redirects and proxies of
the environment are not followed, and the answer is not read.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx2

from cuvee.competition.limits import Limits
from cuvee.errors import PlatformError

SECONDS_TO_ANSWER = 5.0
NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""Addresses that lead to one of IPv4, which may be private."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LookUp = Callable[[str, int], Sequence[str]]


def addresses_of(host: str, port: int) -> list[str]:
    """Look a name up. Raises PlatformError where there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise PlatformError(f"the webhook's host '{host}' is not found: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class Webhook:
    """Where messages go: a URL, and networks besides public ones that it may lead to. `look_up` returns addresses."""

    url: str
    networks: tuple[str, ...] = ()
    look_up: LookUp = addresses_of

    @property
    def host(self) -> str:
        """The host alone: the rest of the address is a secret."""
        return httpx2.URL(self.url).host

    @property
    def name(self) -> str:
        """Its name in the console."""
        return "webhook"

    def tell(self, title: str, sentences: Sequence[str]) -> str:
        """Send sentences as one message; there is nobody whom it may miss. Raises PlatformError as `send` does."""
        self.send(f"{title}: {'; '.join(sentences)}")
        return ""

    def send(self, text: str) -> None:
        """Send a message as Slack, Mattermost and Discord read it.

        Raises PlatformError, without the secret part of the address, where it leads elsewhere or is not taken.
        """
        url = httpx2.URL(self.url)
        usual_port = 443 if url.scheme == "https" else 80
        port = url.port or usual_port
        address = self._checked(url.scheme, self.look_up(url.host, port))
        headers = {"Host": url.netloc.decode("ascii")}
        message = {"text": text, "content": text}
        try:
            with (
                httpx2.Client(trust_env=False, follow_redirects=False, timeout=SECONDS_TO_ANSWER) as client,
                client.stream(
                    "POST",
                    url.copy_with(host=address),
                    json=message,
                    headers=headers,
                    extensions={"sni_hostname": url.host},
                ) as answer,
            ):
                status = answer.status_code
        except httpx2.HTTPError as error:
            raise PlatformError(f"the webhook at '{self.host}' does not answer: {type(error).__name__}") from error
        if not 200 <= status < 300:
            raise PlatformError(f"the webhook at '{self.host}' does not take messages: it answers {status}")

    def _checked(self, scheme: str, found: Sequence[str]) -> str:
        """Return the address to connect to; each one that the name has must be allowed."""
        if not found:
            raise PlatformError(f"the webhook's host '{self.host}' has no address")
        for written in found:
            address = ipaddress.ip_address(written.partition("%")[0])
            named = any(address in ipaddress.ip_network(network) for network in self.networks)
            if not named and not is_public(address):
                hint = "name its network under webhook_networks in private/server.yaml, if that is meant"
                raise PlatformError(f"the webhook at '{self.host}' leads to {address}, which is not public", hint=hint)
            if not named and scheme != "https":
                raise PlatformError(f"the webhook at '{self.host}' is not HTTPS")
        return found[0]


def is_public(address: Address) -> bool:
    """Tell whether an address is anybody's on the internet, and leads to no other one inside."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        is_tunnel = address.sixtofour is not None or address.teredo is not None
        if is_tunnel or address in NAT64:
            return False
    is_special = address.is_multicast or address.is_reserved
    return address.is_global and not is_special


def webhook_of(limits: Limits) -> Webhook | None:
    """Return where messages go, if the organiser has set it."""
    return Webhook(limits.webhook, limits.webhook_networks) if limits.webhook else None
