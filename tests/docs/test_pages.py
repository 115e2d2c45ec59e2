"""Every command, recipe, task and snippet on the pages works, in the order in which a reader meets them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import cuvee
from cuvee.evaluate import load_tasks
from docs.pages import PAGES, Block, blocks, name_of, steps
from docs.shell import Shell, is_shown

pytest.importorskip("transformers", reason="pages measure models")


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=name_of)
def test_what_a_page_shows_happens(page: Path, shell: Shell, request: pytest.FixtureRequest) -> None:
    if page.name == "use-a-hub.md":
        request.getfixturevalue("local_hub")
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        place = f"{name_of(page)}:{block.line}"
        if block.language in ("console", "sh"):
            run_commands(block, shell, place)
        elif block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
            read(block)
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, place, "exec"), names)
        elif block.language == "yaml":
            assert yaml.safe_load(block.text), place
        elif block.language == "json":
            assert json.loads(block.text), place
        else:
            assert block.language == "text", f"{place}: what is a block of {block.language!r}?"


def run_commands(block: Block, shell: Shell, place: str) -> None:
    for step in steps(block):
        code, output = shell.run(step.command)
        fails = any(line.startswith("error:") for line in step.shown)
        assert (code != 0) == fails, f"{place}: `{step.command}` gave {code}\n{output}"
        for line in step.shown:
            assert is_shown(line, output), f"{place}: `{step.command}` did not print\n{line}\nbut\n{output}"


def read(block: Block) -> None:
    """Read what must be right as soon as it is written. A recipe that shows an error is shown with its error."""
    if block.task:
        load_tasks(block.file)
    elif block.language == "yaml" and "# wrong" not in block.text:
        cuvee.load_stages(block.file)


@pytest.mark.parametrize(("line", "printed"), [("a ... c", True), ("a b  c", True), ("a ... d", False), ("b", False)])
def test_a_shown_line_must_be_printed(line: str, printed: bool) -> None:
    assert is_shown(line, "x\na b c\n") is printed
