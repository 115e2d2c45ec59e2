"""What the tests of executors call: functions that other processes can import by name."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuvee.errors import MissingExtra, RecipeError

_calls: list[int] = []


def double(number: int) -> int:
    return 2 * number


def count() -> int:
    """Return how often this was called in the slot."""
    _calls.append(1)
    return len(_calls)


def process() -> int:
    return os.getpid()


def refuse(name: str) -> None:
    raise RecipeError(f"there is no '{name}'", where="recipe.yaml:3", hint="write it otherwise")


def lack() -> None:
    raise MissingExtra("eval", missing="transformers")


def fail() -> None:
    raise KeyError("lambda")


def make_function() -> Callable[[], Any]:
    return lambda: None


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(3)


def sleep(seconds: float, mark: str) -> None:
    """Write this process's number into a file, and sleep."""
    Path(mark).write_text(str(os.getpid()))
    time.sleep(seconds)


def torch_threads() -> int:
    """Return in how many threads torch computes."""
    import torch

    return torch.get_num_threads()


def run_out_of_time() -> None:
    """Get the signal that SLURM sends a while before a job's time is over, in the midst of a call."""
    os.kill(os.getpid(), signal.SIGUSR2)
    time.sleep(60)


def stand_still() -> None:
    """Stop the process with all its threads, as a machine that hangs does."""
    os.kill(os.getpid(), signal.SIGSTOP)


def threads_of_environment() -> str:
    return os.environ["OMP_NUM_THREADS"]
