"""The time that a merge takes, without that of compiling kernels, which happens once on a machine."""

import time

from cuvee.kernels import Kernels


class Clock:
    """Goes from when it is made. Compiling that other threads need not wait for counts as compiling, too."""

    def __init__(self, kernels: Kernels) -> None:
        self._kernels = kernels
        self._started = time.perf_counter()
        self._compiled_before = kernels.compile_seconds()

    def seconds(self) -> float:
        """Return the seconds since the start in which nothing was compiled."""
        return time.perf_counter() - self._started - self.compile_seconds()

    def compile_seconds(self) -> float:
        """Return the seconds since the start in which kernels were compiled."""
        return self._kernels.compile_seconds() - self._compiled_before
