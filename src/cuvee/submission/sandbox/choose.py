"""Which sandbox this machine has: tried out, not guessed."""

import os
import tempfile
from functools import cache
from pathlib import Path

from cuvee.errors import PlatformError
from cuvee.extras import install_command
from cuvee.submission.competition import Tier
from cuvee.submission.sandbox.bubblewrap import find_bubblewrap
from cuvee.submission.sandbox.container import find_container
from cuvee.submission.sandbox.plain import Plain
from cuvee.submission.sandbox.protocol import Job, Limits, Sandbox
from cuvee.submission.sandbox.runtime import python, python_environment

TRIAL = Limits(seconds=20, memory_bytes=1 << 30, disk_bytes=1 << 20)
HINT = f"{install_command('judge')} brings bubblewrap; the machine must allow user namespaces"


def choose_sandbox(tier: Tier = "recipe") -> Sandbox:
    """Return the best sandbox there is. Raises PlatformError if a tier with code would run without walls."""
    found = isolating_sandbox()
    if found is not None:
        return found
    if tier != "recipe":
        raise PlatformError(f"there is no sandbox here, and the tier '{tier}' brings code", hint=HINT)
    return Plain()


@cache
def isolating_sandbox() -> Sandbox | None:
    """Return a sandbox that works here, or None."""
    if os.name == "nt":
        return None  # neither of them runs there
    bubblewrap = find_bubblewrap()
    if bubblewrap is not None and works(bubblewrap):
        return bubblewrap
    container = find_container()
    return container if container is not None and works(container) else None


def works(sandbox: Sandbox) -> bool:
    """Say whether a sandbox runs our interpreter and keeps it from the network."""
    with tempfile.TemporaryDirectory() as folder:
        job = Job(python("-c", _PROBE), (), Path(folder), environment=python_environment())
        try:
            return sandbox.run(job, TRIAL, lambda line: None).ending == "finished"
        except PlatformError:
            return False


_PROBE = (
    "import socket, pathlib; pathlib.Path('x').touch(); assert [n for _, n in socket.if_nameindex()] in (['lo'], [])"
)
