"""Connections as uvicorn keeps them, with two limits that it has no setting for: the time until a request's head has
come, and how many connections one address may hold.
"""

import asyncio
from collections.abc import Sequence

from uvicorn.protocols.http.h11_impl import H11Protocol

from cuvee.competition.addresses import is_among
from cuvee.competition.limits import Limits


def connection_class(limits: Limits) -> type[asyncio.Protocol]:
    """Return the class of a server's connections."""

    class LimitedConnection(Connection):
        head_seconds = limits.head_seconds
        per_address = limits.connections_per_address
        proxies = limits.proxies

    return LimitedConnection


class Connection(H11Protocol):
    """A connection that is closed if it is one too many of its address, or if the head of a request is not there in
    time: counted from its start, then from the end of each answer."""

    head_seconds: float
    per_address: int
    proxies: Sequence[str]
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if self._of_this_address() > self.per_address:
            transport.abort()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _of_this_address(self) -> int:
        """Count the connections of this address. A proxy that is trusted holds those of many visitors."""
        if self.client is None or is_among(self.client[0], self.proxies):
            return 0
        clients = [getattr(connection, "client", None) for connection in self.connections]
        addresses = [client[0] for client in clients if client is not None]
        return addresses.count(self.client[0])

    def _watch(self) -> None:
        """Wait for a head unless a request is under way."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()
        elif self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(self.head_seconds, self._end)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
