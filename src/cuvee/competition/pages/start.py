"""The three lines from an address to a judged recipe, with the address and the token filled in."""

import shlex
from typing import Any

from fastapi import Request

from cuvee.extras import origin, requirement
from cuvee.submission.competition import Competition
from cuvee.version import __version__

NO_TOKEN = "YOUR-TOKEN"
NO_BASELINE = "recipe.yaml"


def start_lines(competition: Competition, address: str, token: str | None) -> tuple[str, str, str]:
    """Return the lines as a shell takes them: install, get, send. The recipe is the first baseline, where there is one.

    Without a token a word stands in its place.
    """
    folder = competition.name
    baselines = competition.ranking.baselines
    recipe = f"{folder}/{baselines[0]}" if baselines else NO_BASELINE
    server, shown = shlex.quote(address), shlex.quote(token or NO_TOKEN)
    return (
        install_line(origin()),
        f"cuvee competition get {server} {folder}",
        f"cuvee submission send {shlex.quote(recipe)} --wait --server {server} --token {shown}",
    )


def install_line(came_from: dict[str, Any] | None) -> str:
    """Return the line that installs the server's Cuvée, by pip's record of where the server's came from.

    From a folder of the server's nobody else can install: then the line is for a checkout of one's own.
    """
    if came_from is None:
        return f"pip install {shlex.quote(f'cuvee=={__version__}')}"
    if str(came_from["url"]).startswith("file:") and "vcs_info" not in came_from:
        return "pip install ."
    return f"pip install {requirement('', came_from)}"


def env_file(address: str, token: str) -> str:
    """Return what a file `.env` says, so that a team keeps its token and need not name it again."""
    return f"CUVEE_SERVER={address}\nCUVEE_TOKEN={token}\n"


def address_of(request: Request) -> str:
    """Return the server's address as this visitor has reached it."""
    return str(request.base_url).rstrip("/")
