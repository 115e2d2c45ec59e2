"""The pages of the documentation and the fenced blocks in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BESIDES = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^# (?P<kind>file|task): (?P<name>\S+)\n")
_NAMED_BEFORE = re.compile(r"`(?P<name>[^`\s]+)`:\n\n?$")


@dataclass(frozen=True)
class Block:
    """A fenced block. `file` is what it is to be written to, if anything; `task` says that it is a task.yaml."""

    line: int
    language: str
    text: str
    file: str = ""
    task: bool = False


@dataclass(frozen=True)
class Step:
    """One command of a block and the output shown for it."""

    command: str
    shown: tuple[str, ...]


def blocks(page: Path) -> Iterator[Block]:
    """Yield a page's fenced blocks. A file's name stands in its first line, or before the block as "`NAME`:"."""
    text = page.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(text):
        inside = _NAMED.match(fence["text"])
        before = _NAMED_BEFORE.search(text[: fence.start()]) if fence["language"] in ("csv", "toml", "text") else None
        named = inside or before
        line = text.count("\n", 0, fence.start()) + 1
        is_task = inside is not None and inside["kind"] == "task"
        yield Block(line, fence["language"], fence["text"], named["name"] if named else "", is_task)


def steps(block: Block) -> list[Step]:
    """Split a block of commands. In `console` a command follows "$ ", the rest is output; `sh` has commands only."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "sh":
        return [Step(line, ()) for line in lines if line and not line.startswith("#")]
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line.strip():
            found[-1][1].append(line)
    return [Step(command, tuple(shown)) for command, shown in found]


def name_of(page: Path) -> str:
    """Return a page's path as test ids show it."""
    return str(page.relative_to(ROOT))
