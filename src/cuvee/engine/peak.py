"""The peak of private (anonymous) memory while something runs, beyond the memory before."""

import threading
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")
_INTERVAL_SECONDS = 0.02


def anonymous_bytes() -> int:
    """Return the process's resident anonymous memory; 0 where the system does not tell (other than Linux)."""
    try:
        text = _STATUS.read_text()
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("RssAnon:")), "RssAnon: 0 kB")
    return int(line.split()[1]) * 1024


class PeakMemory:
    """Samples the memory in a thread of its own between `with` and its end."""

    def __enter__(self) -> "PeakMemory":
        self._before = anonymous_bytes()
        self._peak = self._before
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def bytes(self) -> int:
        """Return the peak so far, beyond the memory at the start."""
        return max(self._peak, anonymous_bytes()) - self._before

    def _watch(self) -> None:
        while not self._done.wait(_INTERVAL_SECONDS):
            self._peak = max(self._peak, anonymous_bytes())
