"""How to add an optional part to the installation at hand: from where it came, be it a checkout, a file or an index."""

import json
from functools import cache
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]


def install_command(extra: str) -> str:
    """Return the command that installs the missing packages of an extra."""
    return f"pip install {requirement(extra, origin())}"


@cache
def origin() -> dict[str, Any] | None:
    """Return pip's record of where cuvee was installed from, or None if an index had it."""
    from importlib.metadata import PackageNotFoundError, distribution  # every command imports this file

    try:
        record = distribution("cuvee").read_text("direct_url.json")
    except PackageNotFoundError:  # run from a checkout that nobody has installed
        return {"url": CHECKOUT.as_uri(), "dir_info": {"editable": True}}
    if record is None:
        return None
    content: dict[str, Any] = json.loads(record)
    return content


def requirement(extra: str, came_from: dict[str, Any] | None) -> str:
    """Return cuvee with an extra, or with none for "", as pip takes it, quoted for a shell."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    extras = f"[{extra}]" if extra else ""
    if came_from is None:
        return f"'cuvee{extras}'"
    url = str(came_from["url"])
    if "vcs_info" in came_from:
        version_control = came_from["vcs_info"]
        return f"'cuvee{extras} @ {version_control['vcs']}+{url}@{version_control['commit_id']}'"
    if not url.startswith("file:"):
        return f"'cuvee{extras} @ {url}'"
    editable = "--editable " if came_from.get("dir_info", {}).get("editable") else ""
    return f"{editable}'{url2pathname(urlsplit(url).path)}{extras}'"
