"""Takes the pictures of the documentation from what commands give: `make pictures`.

Needs Debian's package `chromium`, or CUVEE_CHROMIUM with the place of one, and some minutes: a competition is held.
"""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.syntax import Syntax
from rich.terminal_theme import TerminalTheme
from rich.text import Text

IMAGES = Path(__file__).parent / "images"
MOST_BYTES = 200_000
WIDTH, HEIGHT, COLUMNS = 1200, 900, 80
CUVEE = (sys.executable, "-c", "from cuvee.cli import main; main()")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")

RECIPE = """merge_method: {method}
base_model: {models}/base
models:
{experts}
parameters: {parameters}
dtype: bfloat16
"""
TEAMS = {
    "Cabernet": ("tsv_m", "{lambda: 1.2}"),
    "House red": ("task_arithmetic", "{weight: 1.0, lambda: 0.5}"),
    "Second press": ("ties", "{weight: 1.0, density: 0.5, lambda: 0.8}"),
    "Table wine": ("linear", "{weight: 1.0}"),
}
"""What teams of the pictured competition hand in: a method and its parameters."""

INK, PAPER, WINE, GREEN, QUIET = (242, 233, 228), (24, 17, 20), (240, 155, 176), (143, 207, 159), (185, 166, 168)
AMBER, RED = (229, 185, 126), (243, 154, 128)
PALETTE = TerminalTheme(PAPER, INK, [PAPER, RED, GREEN, AMBER, WINE, WINE, QUIET, INK])
"""Cuvée's dark colours in the place of a terminal's."""

TERMINAL = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font: {char_height}px/{line_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}}
.{unique_id}-title {{ display: none; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's drawing of a terminal, in the reader's own font: that of rich comes from a network."""


def main() -> None:
    """Take every picture anew."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        cuvee("demo", "cuvee-demo")
        Path("my-recipe.yaml").write_text(recipe("cuvee-demo/models", *TEAMS["Second press"]), encoding="utf-8")
        terminal("terminal.svg", Path("my-recipe.yaml"), "merge", "my-recipe.yaml", "my-blend")
        cuvee("evaluate", "my-blend", "sort", "reverse", "odd", "--against-parents", "--out", "scores")
        models = ("base", "odd", "reverse", "shift", "sort")
        cuvee("align", "blends/sum-0.5", "aligned", *experts(), "--report", "aligned.html", folder=Path("cuvee-demo"))
        cuvee("compare", *models, "--out", f"{folder}/comparison.html", folder=Path("cuvee-demo/models"))
        hold_competition(Path("competition"), Path("site"))
        with browser() as opened:
            screenshot(opened, Path("cuvee-demo/index.html"), "leaderboard")
            screenshot(opened, Path("scores/report.html"), "evaluation")
            screenshot(opened, Path("comparison.html"), "comparison", part="cosine")
            screenshot(opened, Path("cuvee-demo/aligned.html"), "alignment")
            screenshot(opened, Path("site/index.html"), "board")


def cuvee(*words: str, folder: Path = Path(), **environment: str) -> str:
    """Run a command and return all that it said, colours included."""
    surroundings = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), **environment}
    command = [*CUVEE, *words]
    done = subprocess.run(
        command, cwd=folder, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True, text=True
    )
    return done.stdout


def recipe(models: str, method: str, parameters: str) -> str:
    """Return a recipe of three experts."""
    experts = "\n".join(f"  - model: {models}/{name}" for name in ("sort", "reverse", "odd"))
    return RECIPE.format(method=method, models=models, experts=experts, parameters=parameters)


def experts() -> Iterator[str]:
    """Yield the experts of the demo with their texts, as `cuvee align` takes them."""
    for name in ("middle", "odd", "reverse", "shift", "sort"):
        yield from ("--expert", f"models/{name}=texts/{name}.jsonl")


def terminal(name: str, shown: Path, *words: str) -> None:
    """Draw a terminal in which a file is shown and a command has run."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.assemble(("$ ", "green"), (f"cat {shown}", "bold")))
    console.print(Syntax(shown.read_text(encoding="utf-8"), "yaml", theme="ansi_dark", background_color="default"))
    console.print(Text.assemble(("$ ", "green"), ("cuvee " + " ".join(words), "bold")))
    console.print(Text.from_ansi(cuvee(*words)))
    console.print(Text("$ ", "green"))
    keep(name, console.export_svg(title="", theme=PALETTE, code_format=TERMINAL, unique_id="cuvee").encode())


def hold_competition(folder: Path, site: Path) -> None:
    """Hold a competition of the bundled family, with teams, and write its pages."""
    cuvee("competition", "new", str(folder), "--items", "50", "--title", "Blend the family")
    with serving(folder) as address:
        for team, (method, parameters) in TEAMS.items():
            (folder / "mine.yaml").write_text(recipe("models", method, parameters), encoding="utf-8")
            token = posted(f"{address}/api/teams", {"name": team})["token"]
            cuvee("submission", "send", "mine.yaml", folder=folder, CUVEE_SERVER=address, CUVEE_TOKEN=token)
    cuvee("competition", "work", str(folder), "--once")
    cuvee("competition", "export", str(folder), str(site))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a competition without workers; yield its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [*CUVEE, "competition", "serve", str(folder), "--port", str(port), "--workers", "0"]
    server = subprocess.Popen(command)
    try:
        wait_for(f"{address}/api/competition", server)
        yield address
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    """Return when the address answers. Raises RuntimeError where the server has ended."""
    while server.poll() is None:
        try:
            urllib.request.urlopen(address).close()
            return
        except urllib.error.URLError:
            time.sleep(0.5)
    raise RuntimeError(f"the server ended with {server.returncode}")


def posted(address: str, content: dict[str, str]) -> dict[str, Any]:
    """Send JSON and return the answer."""
    request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        document: dict[str, Any] = json.load(answer)
    return document


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a headless Chromium."""
    place = os.environ.get("CUVEE_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=place, args=list(ARGUMENTS))
        yield started
        started.close()


def screenshot(opened: Browser, page: Path, name: str, *, part: str = "") -> None:
    """Take the top of a page, or of a part of it, in light and in dark colours."""
    for scheme in ("light", "dark"):
        size = {"width": WIDTH, "height": HEIGHT}
        context = opened.new_context(viewport=size, color_scheme=scheme, offline=True, reduced_motion="reduce")
        tab = context.new_page()
        tab.goto(f"{page.resolve().as_uri()}#{part}")
        keep(f"{name}.png" if scheme == "light" else f"{name}-dark.png", tab.screenshot())
        context.close()


def keep(name: str, content: bytes) -> None:
    """Write a picture. Raises ValueError for one that is larger than a page should load."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"{name} has {len(content):,} bytes; a picture may have {MOST_BYTES:,}")
    (IMAGES / name).write_bytes(content)


if __name__ == "__main__":
    main()
