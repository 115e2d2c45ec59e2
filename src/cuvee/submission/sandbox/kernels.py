"""Compiled kernels for jobs: a copy of the cache beside the package, for one job alone."""

import shutil
from pathlib import Path

from cuvee.submission.sandbox.runtime import PACKAGE

CACHE = PACKAGE / "kernels" / "fused" / "__pycache__"


def kernel_cache(scratch: Path) -> dict[Path, Path]:
    """Return the overlay over the package's cache of kernels in a job: a copy in `scratch`.

    Compiling them takes longer than merging a small model. A cache that is empty stays so: then each job compiles.
    """
    if not CACHE.is_dir():
        return {}
    shutil.copytree(CACHE, scratch)
    return {scratch: CACHE}
