"""This machine's kind and speed: a fixed piece of work, timed, that budgets are measured against."""

import os
import platform
import subprocess
import time
from pathlib import Path

import numpy as np

from cuvee.cores import usable_cores
from cuvee.submission.verdict import Hardware
from cuvee.version import __version__
from cuvee.versions import installed_version

LIBRARIES = ("numpy", "numba", "torch", "transformers")
REPEATS = 3
SIDE = 512
ROUNDS = 12
STREAM_BYTES = 64 << 20


def calibrate() -> float:
    """Return the seconds that a fixed piece of work takes here, the best of three: products, streams and plain loops.

    It stands for the work of merging and evaluating, on the processor.
    """
    return min(_timed() for _ in range(REPEATS))


def _timed() -> float:
    generator = np.random.default_rng(0)
    square = generator.standard_normal((SIDE, SIDE), np.float32)
    stream = np.zeros(STREAM_BYTES // 4, np.float32)
    started = time.perf_counter()
    for _ in range(ROUNDS):
        square = square @ square
        square /= np.abs(square).max()
        stream += 1
    total = 0
    for number in range(400_000):
        total += number & 7
    return time.perf_counter() - started


def this_machine() -> Hardware:
    """Describe the machine that this process runs on."""
    return Hardware(
        processor=_processor(),
        cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        accelerator=_accelerator(),
        system=f"{platform.system()} {platform.machine()}",
        versions={"cuvee": __version__, "python": platform.python_version(), **_versions()},
    )


def _memory_bytes() -> int:
    """Return the main memory; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _accelerator() -> str | None:
    """Ask the driver's own program: importing torch would take seconds."""
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.decode("utf-8", "replace").strip() or None


def _versions() -> dict[str, str]:
    versions = {name: installed_version(name) for name in LIBRARIES}
    return {name: version for name, version in versions.items() if version is not None}
