"""Writes deploy/requirements.txt: what a server and its workers need, pinned as in constraints.txt, with hashes.

    python tools/hashes.py        needs uv in the environment of that Python

pip and uv then install nothing whose bytes are others. torch is left out, with what its build for CUDA brings: the
image takes the build for processors, which the public index does not have.
"""

import re
import subprocess
import sys
from collections.abc import Iterator

from public_index import CONSTRAINTS, PROJECT, ROOT, uv

REQUIREMENTS = ROOT / "deploy" / "requirements.txt"
EXTRAS = ("server", "judge")
PYTHON, PLATFORM = "3.11", "x86_64-manylinux_2_28"
OF_TORCH = re.compile(r"(torch|triton|cuda-[\w-]+|nvidia-[\w-]+)==")
HEADER = "# Written by `make hashes` from pyproject.toml and constraints.txt.\n"


def main() -> int:
    """Write the file; return the exit code of uv."""
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    options = ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
    where = ["--python-version", PYTHON, "--python-platform", PLATFORM, "--constraint", str(CONSTRAINTS)]
    command = [str(uv()), "pip", "compile", str(PROJECT), *extras, *options, *where]
    compiled = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if compiled.returncode:
        return compiled.returncode
    kept = [block for block in blocks(compiled.stdout) if not OF_TORCH.match(block)]
    REQUIREMENTS.write_text(HEADER + "".join(kept), encoding="utf-8")
    print(f"{REQUIREMENTS.relative_to(ROOT)}: {len(kept)} packages with their hashes")
    return 0


def blocks(text: str) -> Iterator[str]:
    """Yield each requirement with the lines of its hashes, which are indented."""
    block = ""
    for line in text.splitlines(keepends=True):
        if block and not line.startswith(" "):
            yield block
            block = ""
        block += line
    if block:
        yield block


if __name__ == "__main__":
    sys.exit(main())
