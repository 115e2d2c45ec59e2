"""Where the command line keeps files that it can do without."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of `CUVEE_CACHE`, or else `cuvee` in the user's folder for caches."""
    chosen = os.environ.get("CUVEE_CACHE")
    if chosen:
        return Path(chosen)
    of_user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(of_user) / "cuvee"
