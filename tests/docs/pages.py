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
_REMARK = re.compile(r"<!-- (?P<key>varies|output)(?:: (?P<words>[^>]*))? -->\n$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    `file` is what it is to be written to, if anything; `task` says that it is a task.yaml. A comment before the block,
    which readers do not see, can say more: `varies` has the kinds of figures that machines print differently (see
    `docs.likeness`), `is_output` says that the block is what the Python block before it has printed.
    """

    line: int
    language: str
    text: str
    span: tuple[int, int]
    file: str = ""
    task: bool = False
    varies: tuple[str, ...] = ()
    is_output: bool = False


@dataclass(frozen=True)
class Step:
    """One command of a block, as it is written and in one line, and the output shown for it."""

    source: str
    command: str
    output: str

    @property
    def fails(self) -> bool:
        """Say whether the page shows that the command ends with an error."""
        return any(line.startswith("error:") for line in self.output.splitlines())


def blocks(page: Path) -> Iterator[Block]:
    """Yield a page's fenced blocks. A file's name stands in its first line, or before the block as "`NAME`:"."""
    text = page.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()]
        inside = _NAMED.match(fence["text"])
        outside = _NAMED_BEFORE.search(before) if fence["language"] in ("csv", "toml", "text") else None
        named = inside or outside
        remark = _REMARK.search(before)
        yield Block(
            line=before.count("\n") + 1,
            language=fence["language"],
            text=fence["text"],
            span=fence.span("text"),
            file=named["name"] if named else "",
            task=inside is not None and inside["kind"] == "task",
            varies=tuple((remark["words"] or "").split(", ")) if remark and remark["key"] == "varies" else (),
            is_output=remark is not None and remark["key"] == "output",
        )


def steps(block: Block) -> list[Step]:
    """Split a block of commands. In `console` a command follows "$ ", the rest is output; `sh` has commands only."""
    if block.language == "sh":
        lines = block.text.replace("\\\n", " ").splitlines()
        return [Step(line, line, "") for line in lines if line and not line.startswith("#")]
    return [_step(text) for text in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE) if text]


def _step(text: str) -> Step:
    """Take a command apart from its output. A command goes on where its line ends with a backslash."""
    assert text.startswith("$ "), f"a console block begins with a command, not with {text!r}"
    match = re.match(r"(?:.*\\\n)*.*\n", text)
    assert match is not None
    source = match[0]
    command = source.removeprefix("$ ").replace("\\\n", " ").strip()
    return Step(source, command, text[match.end() :].rstrip("\n"))


def with_outputs(block: Block, outputs: list[str]) -> str:
    """Return the text of a console block with other outputs of its commands."""
    return "".join(step.source + lines(output) for step, output in zip(steps(block), outputs, strict=True))


def lines(output: str) -> str:
    """End an output with a newline, unless there is none."""
    return f"{output}\n" if output else ""


def rewrite(page: Path, texts: dict[Block, str]) -> None:
    """Put other texts in the place of some blocks of a page."""
    content = page.read_text(encoding="utf-8")
    for block, text in sorted(texts.items(), key=lambda item: item[0].line, reverse=True):
        start, end = block.span
        content = content[:start] + text + content[end:]
    page.write_text(content, encoding="utf-8")


def name_of(page: Path) -> str:
    """Return a page's path as test ids show it."""
    return str(page.relative_to(ROOT))
