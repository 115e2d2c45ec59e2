"""The executor: slots that each run one call at a time, and results as they come."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

from cuvee.errors import CuveeError
from cuvee.version import __version__


@dataclass(frozen=True)
class Done:
    """A call that has ended.

    - `slot`: where it ran.
    - `value`: the result of the function.
    - `failure`: a sentence, where the function raised or its slot died; "" otherwise.
    - `lost`: whether the slot died. The call may go well another time, and the slot has started anew without its state.
    """

    slot: int
    value: Any = None
    failure: str = ""
    lost: bool = False


class Executor(Protocol):
    """Slots are sticky: the state that a function keeps in its module stays with the slot, until it dies or is closed.

    The caller decides which slot does which call, and submits a lost call again.
    """

    @property
    def slots(self) -> int:
        """How many calls run at once; slots are numbered from 0."""
        ...

    def submit(self, slot: int, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function of a module in a slot. Raises ValueError if the slot is busy."""
        ...

    def next_done(self) -> Done:
        """Wait for a call to end, whichever comes first. Raises ValueError if none runs."""
        ...

    def close(self) -> None:
        """Stop all slots, those that run a call, too."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Outcome(NamedTuple):
    """The outcome of a call: a value, or a sentence that says why there is none."""

    value: Any
    failure: str


def outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """Call a function, and turn an error into a sentence: not every error can be sent to another process."""
    try:
        return Outcome(function(*arguments), "")
    except CuveeError as error:
        place = f"{error.where}: " if error.where else ""
        return Outcome(None, f"{place}{error.message}")
    except Exception as error:  # noqa: BLE001  # whatever the function raises belongs to its call
        return Outcome(None, f"{type(error).__name__}: {error}")


def outcome_of_version(version: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """Call a function on another machine, if this machine has the caller's version."""
    if version != __version__:
        return Outcome(None, f"a machine of the cluster has cuvee {__version__}, and the caller has {version}")
    return outcome(function, arguments)


def refuse_busy(slot: int, slots: int, *, busy: bool) -> None:
    """Raise ValueError for a slot that does not exist or runs a call."""
    if not 0 <= slot < slots:
        raise ValueError(f"there is no slot {slot}: there are {slots}, from 0")
    if busy:
        raise ValueError(f"slot {slot} runs a call, and its result was not fetched yet")


def limit_threads(threads: int) -> None:
    """Let torch and BLAS use so many threads, unless OMP_NUM_THREADS says otherwise.

    They read it when they are imported. A process that is spawned imports its parent's script first, and torch with it
    where that does.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
