"""An actor a slot on the machines that a Ray cluster joins. Functions, arguments and results travel; models do not.

Each machine needs cuvee in the version that calls, and the models and tasks under the same paths.
"""

import socket
from collections.abc import Callable
from typing import Any, Self

from cuvee.errors import MissingExtra, PlatformError, RecipeError
from cuvee.executor.executor import Done, Outcome, outcome_of_version, refuse_busy
from cuvee.version import __version__

PATIENCE_SECONDS = 10.0
"""How long a cluster may take to accept a connection."""

HINT = "start one with `ray start --head`, and give its address; 'auto' is the one that this machine has joined"


class RayActors:
    """Runs calls in actors of the cluster at `address`.

    `slots` is how many; by default a slot for each GPU of the cluster, or for each processor where it has no GPU. An
    actor that is lost with its machine is started anew on another machine.
    """

    def __init__(self, address: str, slots: int | None = None) -> None:
        """Join the cluster. Raises RecipeError if there is none, ValueError for fewer than one slot."""
        self._ray = _ray()
        self._joined = _joined(self._ray, address)
        resources = self._ray.cluster_resources()
        self._gpus = int(resources.get("GPU", 0))
        count = slots if slots is not None else self._gpus or int(resources.get("CPU", 1))
        if count < 1:
            raise ValueError(f"expected at least one slot, found {count}")
        self._actors = [self._started(processors=1) for _ in range(count)]
        self._running: dict[Any, int] = {}

    @property
    def slots(self) -> int:
        return len(self._actors)

    def submit(self, slot: int, function: Callable[..., Any], *arguments: Any) -> None:
        refuse_busy(slot, self.slots, busy=slot in self._running.values())
        self._running[self._actors[slot].call.remote(__version__, function, arguments)] = slot

    def next_done(self) -> Done:
        if not self._running:
            raise ValueError("no call runs")
        ended, _ = self._ray.wait(list(self._running), num_returns=1)
        slot = self._running.pop(ended[0])
        try:
            value, failure = self._ray.get(ended[0])
        except self._ray.exceptions.RayActorError as error:
            self._replace(slot)
            return Done(slot, failure=f"the machine or process that ran this is lost: {_line(error)}", lost=True)
        except self._ray.exceptions.RayError as error:
            return Done(slot, failure=f"Ray failed: {_line(error)}")
        return Done(slot, value, failure)

    def node_ids(self) -> list[str]:
        """Return the identifier of the machine on which each slot is, as Ray names it. Waits for all of them."""
        ids: list[str] = self._ray.get([actor.node_id.remote() for actor in self._actors])
        return ids

    def close(self) -> None:
        """Stop all actors, and leave the cluster if it was joined here."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors, self._running = [], {}
        if self._joined:
            self._ray.shutdown()
            self._joined = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _replace(self, slot: int) -> None:
        """Start an actor anew. It asks for no processor of its own: the machines that are left may have none free."""
        self._ray.kill(self._actors[slot])
        self._actors[slot] = self._started(processors=0)

    def _started(self, *, processors: int) -> Any:
        # calls are repeated by whoever made them, who knows what was measured: neither actor nor call is retried by Ray
        options = {"num_cpus": processors, "num_gpus": 1 if self._gpus else 0, "max_restarts": 0, "max_task_retries": 0}
        return self._ray.remote(_Slot).options(scheduling_strategy="SPREAD", **options).remote()


class _Slot:
    """The work of an actor."""

    def call(self, version: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
        """Call a function, if this machine has the caller's version."""
        return outcome_of_version(version, function, arguments)

    def node_id(self) -> str:
        """Return the identifier of this actor's machine."""
        ray = _ray()
        return str(ray.get_runtime_context().get_node_id())


def _ray() -> Any:
    """Return the package. Raises MissingExtra where it is not installed."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra("ray", missing=error.name or "ray") from error
    return ray


def _joined(ray: Any, address: str) -> bool:
    """Join a cluster, unless this process has joined one; say whether it was done here."""
    if ray.is_initialized():
        return False
    _refuse_silence(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="WARNING", configure_logging=True)
    except ConnectionError as error:
        raise RecipeError(f"no Ray cluster answers at '{address}': {_line(error)}", hint=HINT) from error
    except (RuntimeError, ValueError, AssertionError) as error:  # what Ray raises for other addresses
        raise PlatformError(f"Ray cannot join '{address}': {_line(error)}", hint=HINT) from error
    return True


def _refuse_silence(address: str) -> None:
    """Raise RecipeError if nobody listens at `host:port`: Ray would try it for many minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RecipeError(f"no Ray cluster answers at '{address}': {_line(error)}", hint=HINT) from error


def _line(error: Exception) -> str:
    """Return the first line of an error's text that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
