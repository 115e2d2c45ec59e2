"""Every command, recipe, task and snippet on the pages works, in the order in which a reader meets them.

`make examples` writes what the commands print into the pages.
"""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

import cuvee
from cuvee.evaluation import load_tasks
from cuvee.submission.asked import load_asked
from docs.likeness import alike, settled
from docs.pages import PAGES, Block, blocks, lines, name_of, rewrite, steps, with_outputs
from docs.shell import Shell

pytest.importorskip("transformers", reason="pages measure models")


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=name_of)
def test_what_a_page_shows_happens(page: Path, shell: Shell, request: pytest.FixtureRequest) -> None:
    if page.name in ("use-a-hub.md", "give-a-blend-to-others.md"):
        request.getfixturevalue("local_hub")
    texts = run_page(page, shell)
    if texts and request.config.getoption("--refresh-examples", default=False):
        rewrite(page, texts)
        return
    for block, text in texts.items():
        assert block.text == text, f"{name_of(page)}:{block.line} shows something else; `make examples` mends it"


def run_page(page: Path, shell: Shell) -> dict[Block, str]:
    """Run all blocks of a page; return those whose outputs are not what the page shows, with the right text."""
    names: dict[str, Any] = {"__name__": "__main__"}
    texts: dict[Block, str] = {}
    printed = ""
    for block in blocks(page):
        place = f"{name_of(page)}:{block.line}"
        if block.language in ("console", "sh"):
            outputs = run_commands(block, shell, place)
            if block.language == "console" and with_outputs(block, outputs) != block.text:
                texts[block] = with_outputs(block, outputs)
        elif block.is_output:
            if not alike(block.text, printed, "cuvee evaluate", block.varies):
                texts[block] = lines(printed.rstrip("\n"))
        elif block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
            read(block)
        elif block.language == "python":
            printed = run_python(block, names, place)
        elif block.language == "yaml":
            assert yaml.safe_load(block.text), place
        elif block.language == "json":
            assert json.loads(block.text), place
        else:
            assert block.language in ("text", "py"), f"{place}: what is a block of {block.language!r}?"
    return texts


def run_commands(block: Block, shell: Shell, place: str) -> list[str]:
    """Run the commands of a block; return for each what the page should show, which it does where that is alike."""
    outputs = []
    for step in steps(block):
        code, output = shell.run(step.command)
        assert (code != 0) == step.fails, f"{place}: `{step.command}` gave {code}\n{output}"
        output = settled(output)
        outputs.append(step.output if alike(step.output, output, step.command, block.varies) else output)
    return outputs


def run_python(block: Block, names: dict[str, Any], place: str) -> str:
    stdout = io.StringIO()
    with redirect_stdout(stdout):
        exec(compile("\n" * block.line + block.text, place, "exec"), names)
    return stdout.getvalue()


def read(block: Block) -> None:
    """Read what must be right as soon as it is written. A recipe that shows an error is shown with its error."""
    if block.task:
        load_tasks(block.file)
    elif block.language == "yaml" and "# wrong" not in block.text:
        if "sweep:" in block.text:
            cuvee.load_sweep(block.file)
        else:
            load_asked(Path(block.file))
