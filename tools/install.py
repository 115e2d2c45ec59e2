"""Installs an extra of the checkout, with our pins, where the Python is that runs this: `python tools/install.py eval`.

torch comes first and alone: another package's requirement would fetch the newest build instead of the pinned one. On
Linux the package index has it only with CUDA, many times the size of the build for processors, which torch's own index
has. That index is asked once, for a few seconds; where it does not answer, the configured index's build will do.
Standard library only, since nothing else is installed yet.
"""

import platform
import re
import subprocess
import sys
import threading
import time
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PROBE_SECONDS = 4.0
SECONDS_BETWEEN_SIGNS = 20.0

CPU_BUILD = "the build for processors, about 200 MB to download; this takes a minute or two"
CUDA_BUILD = (
    "as the configured index has it. With CUDA, as on the public index for Linux, it is about 2.7 GB to download and "
    "5 GB on disk, and takes several minutes"
)
OTHER_SYSTEMS = "about 100 to 200 MB to download; this takes a minute or two"
SIZE_OF_REST = {"eval": "about 150 MB", "dev": "about 400 MB"}
SIZE_OF_OTHERS = "some hundred MB"


def main(extra: str) -> int:
    """Install torch, then all else; return the exit code of pip."""
    code = install_torch()
    if code:
        return code
    say(f"installing cuvee with the extra '{extra}', {SIZE_OF_REST.get(extra, SIZE_OF_OTHERS)} to download")
    return pip_install("--constraint", str(CONSTRAINTS), "--editable", f"{ROOT}[{extra}]")


def install_torch() -> int:
    """Install torch unless it is there; return the exit code of pip."""
    wanted = pinned_version(CONSTRAINTS.read_text(encoding="utf-8"))
    if installed_release() == wanted:
        say(f"torch {version('torch')} is already installed")
        return 0
    if platform.system() == "Linux" and cpu_index_answers():
        say(f"installing torch {wanted}: {CPU_BUILD}")
        if pip_install("--no-deps", "--index-url", CPU_INDEX, f"torch=={wanted}") == 0:
            return 0
        say("that did not work; going on with the configured index")
    build = CUDA_BUILD if platform.system() == "Linux" else OTHER_SYSTEMS
    say(f"installing torch {wanted}: {build}")
    return pip_install("--constraint", str(CONSTRAINTS), "torch")


def pinned_version(constraints: str) -> str:
    """Return the version that constraints pin torch to. A local build such as 2.13.0+cpu is on no public index."""
    pin = re.search(r"^torch==(?P<version>[^\s;#]+)", constraints, re.MULTILINE)
    if pin is None:
        raise SystemExit(f"{CONSTRAINTS}: expected a line 'torch==VERSION'")
    return pin["version"]


def installed_release() -> str | None:
    """Return the installed version without the name of its build, or None."""
    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return None


def cpu_index_answers(index: str = CPU_INDEX, seconds: float = PROBE_SECONDS) -> bool:
    """Say whether torch's own index answers within the seconds, one try.

    The look-up of a name has no time limit of its own, so a thread asks, and is left behind if it takes too long.
    """
    answers = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{index}/torch/", timeout=seconds):
                answers.set()
        except (OSError, ValueError):
            pass

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answers.is_set()


def pip_install(*arguments: str) -> int:
    """Run pip, which says what it does; long steps of which it says nothing get a line of ours now and then."""
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    started = time.monotonic()
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait(SECONDS_BETWEEN_SIGNS)
        except subprocess.TimeoutExpired:
            say(f"still installing, {time.monotonic() - started:.0f} s so far")


def say(message: str) -> None:
    """Print a line now, even if the output is a pipe."""
    print(f"cuvee: {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
