"""What a stranger reads first: groups, types, examples that work, and answers to what mergekit's users type."""

import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from cuvee import demo
from cuvee.cli import main
from cuvee.cli.app import app
from cuvee.cli.examples import EXAMPLES
from cuvee.cli.like_mergekit import ANSWERS
from cuvee.cli.verbs import VERBS, make_app
from cuvee.errors import EvaluationError
from cuvee.evaluation import load_task

GROUP: Any = typer.main.get_command(app)

MERGEKIT_OPTIONS = [
    "allow-crimes",
    "unsafe-truncate-embeddings",
    "transformers-cache",
    "lora-merge-cache",
    "lora-merge-dtype",
    "cuda",
    "low-cpu-memory",
    "out-shard-size",
    "copy-tokenizer",
    "clone-tensors",
    "trust-remote-code",
    "random-seed",
    "lazy-unpickle",
    "write-model-card",
    "safe-serialization",
    "quiet",
    "read-to-gpu",
    "multi-gpu",
    "num-threads",
    "verbose",
    "gpu-rich",
    "async-write",
    "write-threads",
]
"""The fields of MergeOptions in mergekit 0.1.5, but for `device`, which `cuvee merge` has."""


def leaves(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def parse(command: Any, arguments: list[str], parent: Any = None) -> None:
    """Parse a command line down to its last command, without running it."""
    context = command.make_context(command.name, arguments, parent=parent)
    if hasattr(command, "commands"):
        _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse(inner, rest, context)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["cuvee", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_every_command_has_examples_of_its_own() -> None:
    assert set(EXAMPLES) == {name for name, _ in leaves(GROUP)}
    for name, command in leaves(GROUP):
        assert command.epilog.split("\n\n")[1:] == list(EXAMPLES[name])
        for example in EXAMPLES[name]:
            assert example.startswith(f"cuvee {name}")


@pytest.mark.parametrize("example", [example for both in EXAMPLES.values() for example in both])
def test_every_example_is_understood(example: str) -> None:
    words = shlex.split(example)
    parse(GROUP, words[1 : words.index(">")] if ">" in words else words[1:])


def test_an_example_with_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(Exception, match="--fast"):
        parse(GROUP, ["merge", "a", "b", "--fast"])


def test_commands_are_in_groups(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    panels = re.findall(r"^╭─ (\w+) ─", capsys.readouterr().out, re.MULTILINE)
    assert panels == ["Options", "Start", "Merge", "Look", "Measure", "Compete"]
    assert {command.rich_help_panel for command in GROUP.commands.values()} == set(panels[1:])


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_alone_is_what_it_is_among_all(verb: str) -> None:
    group: Any = typer.main.get_command(make_app([verb]))
    assert list(group.commands) == [verb]
    alone, among_all = dict(leaves(group)), dict(leaves(GROUP))
    for name, command in alone.items():
        for what in ("help", "epilog", "rich_help_panel"):
            assert getattr(command, what) == getattr(among_all[name], what)
        assert [option.opts for option in command.params] == [option.opts for option in among_all[name].params]
    assert type(group.commands[verb]) is type(GROUP.commands[verb])


def test_a_verb_starts_without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cuvee.cli.upcycle", raising=False)
    run(monkeypatch, "inspect", "--help")
    assert "cuvee.cli.upcycle" not in sys.modules
    run(monkeypatch, "--help")
    assert "cuvee.cli.upcycle" in sys.modules


def test_every_value_has_a_name() -> None:
    for name, command in leaves(GROUP):
        for option in command.params:
            if option.param_type_name == "option" and not option.is_flag:
                assert option.metavar, f"{name} {option.opts[0]}"


@pytest.mark.parametrize("command", [["merge", "r.yaml", "out"], ["plan", "r.yaml"]], ids=lambda words: words[0])
@pytest.mark.parametrize("option", MERGEKIT_OPTIONS)
def test_an_option_of_mergekit_gets_the_one_hint_that_helps(
    option: str, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for written in (f"--{option}", f"--{option}=x", f"--no-{option}"):
        assert run(monkeypatch, *command, written) == 2
        error, hint = capsys.readouterr().err.splitlines()
        assert error == f"error: '{written.partition('=')[0]}' is an option of mergekit"
        assert hint.startswith("  hint: ")


def test_options_that_the_hints_name_exist() -> None:
    merge, plan = GROUP.commands["merge"], GROUP.commands["plan"]
    known = {name for command in (GROUP, merge, plan) for option in command.params for name in option.opts}
    named = {name for answer in ANSWERS.values() for name in re.findall(r"--[a-z-]+", answer)}
    assert {"--device", "--threads"} <= named <= known


def test_merge_keeps_its_own_options_that_mergekit_has_too() -> None:
    parse(GROUP, ["merge", "r.yaml", "out", "--device", "cuda"])


def test_an_unknown_task_lists_the_bundled_ones_and_lm_evals() -> None:
    with pytest.raises(EvaluationError) as caught:
        load_task("hellaswag")
    skills = ", ".join(name for name in demo.task_names() if not name.endswith("-private"))
    assert f"there are {skills};" in str(caught.value)
    assert "lm-eval:NAME" in str(caught.value)


def test_the_bundled_tasks_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    run(monkeypatch, "task", "list")
    printed = capsys.readouterr().out
    rows = [line.split()[:2] for line in printed.splitlines()[1:] if line and not line.startswith(" ")]
    listed = [[name, str(len(load_task(name).samples))] for name in demo.task_names()]
    assert [row for row in rows if row[0] in demo.task_names()] == listed
    assert "lm-eval:NAME" in printed
