"""The paths of CONTRIBUTING.md, walked: one thing of each kind is added to a copy, and the named suites find it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT

METHOD = '''"""Averages task vectors: an example."""

from cuvee.method import element_method
from cuvee.ops.arrays import Array, sum_models


@element_method("averaged", formula="θ₀ + λ Σ τᵢ / n")
def averaged(deltas: Array) -> Array:
    """Take the mean of the task vectors."""
    return sum_models(deltas) / deltas.shape[0]
'''
COMMAND = '''"""cuvee greet: an example."""

import typer

NAME = "greet"


def command(name: str = typer.Argument(..., metavar="NAME", help="Whom to greet.")) -> None:
    """Greet NAME."""
    typer.echo(f"hello {name}")
'''
CHECK = '''

def no_ninety_nine(steps: Sequence[MergeStep], materials: Materials) -> Iterator[RecipeError]:
    """A seed of 99 is refused: an example."""
    if materials.recipe.seed == 99:
        yield RecipeError("the seed is 99", where=materials.recipe.source)
'''
CHECK_TEST = """

def test_the_example_check_refuses(plan):
    with pytest.raises(cuvee.errors.RecipeError, match="the seed is 99"):
        plan(f"{LINEAR}seed: 99\\n")
"""
METRIC = '''

def same_length(prediction: str, target: str) -> float:
    """Say whether a prediction is as long as the target: an example."""
    return float(len(prediction) == len(target))

'''
METRIC_TEST = """

def test_the_example_metric_scores() -> None:
    assert score("same_length", Sample("0", "q", "generation", (), "ab"), "cd") == 1.0
"""
RULE = '''

def named(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """A model has a reference: an example."""
    if not model.reference:
        yield Finding("named", "fail", "it has no reference", model.reference)

'''
RULE_TEST = """

def test_the_example_rule_fails() -> None:
    assert "named" in failures(replace(HONEST, reference=""))
"""
HINT_TEST = """

def test_the_example_hint_is_read() -> None:
    from cuvee.structure.config import hint

    assert "experts" in hint({"model_type": "example_moe"}, "input_first")
"""
SUITES = {
    "a method": ("tests/methods/test_contract.py", "averaged"),
    "a check of a plan": ("tests/plan/test_plan.py", "example_check"),
    "a metric": ("tests/evaluation/test_metrics.py", "example_metric"),
    "a command": ("tests/cli/test_help.py", "every_command_has_examples or understood and greet"),
    "a rule of a competition": ("tests/submission/test_rules.py", "example_rule or honest_submission"),
    "a hint for a family": ("tests/structure/test_infer.py", "example_hint"),
}
"""The rows of the table that are walked, their suites, and the tests of what is added."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the project and add one thing of each kind, as the table says."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("vocabularies", "images"))
    shutil.copy(ROOT / "pyproject.toml", root)
    source, tests = root / "src" / "cuvee", root / "tests"
    (source / "methods" / "averaged.py").write_text(METHOD, encoding="utf-8")
    (source / "cli" / "greet.py").write_text(COMMAND, encoding="utf-8")
    put(source / "cli" / "verbs.py", before='"inspect", "compare"', text='"greet", ')
    put(
        source / "cli" / "examples.py",
        before='    "competition check-verdict"',
        text='    "greet": ("cuvee greet Ada", "cuvee greet Bo"),\n',
    )
    put(source / "plan" / "checks.py", before="\n\nSTEP_CHECKS", text=CHECK)
    put(source / "plan" / "checks.py", before="    whole_model_problems, ", text="    no_ninety_nine,\n")
    put(source / "evaluation" / "metrics.py", before="\nTEXT_METRICS", text=METRIC)
    put(
        source / "evaluation" / "metrics.py",
        before='    "exact_match": exact_match',
        text='    "same_length": same_length,\n',
    )
    put(source / "submission" / "rules.py", before="\nWHOLE_RULES", text=RULE)
    put(source / "submission" / "rules.py", before="    known, parameters", text="    named,\n")
    put(
        source / "structure" / "hints.json",
        before='  "mixtral"',
        text='  "example_moe": {"input_first": ["experts"]},\n',
    )
    for suite, text in (
        ("plan/test_plan.py", CHECK_TEST),
        ("evaluation/test_metrics.py", METRIC_TEST),
        ("submission/test_rules.py", RULE_TEST),
        ("structure/test_infer.py", HINT_TEST),
    ):
        put(tests / suite, text=text)
    return root


def put(file: Path, *, text: str, before: str = "") -> None:
    """Put a text before another one, or at the end of a file."""
    content = file.read_text(encoding="utf-8")
    if before:
        assert content.count(before) == 1, f"{file.name}: {before!r}"
        content = content.replace(before, text + before)
    else:
        content += text
    file.write_text(content, encoding="utf-8")


def test_the_suites_find_all_that_is_added(copy: Path) -> None:
    files = [file for file, _ in SUITES.values()]
    chosen = " or ".join(f"({words})" for _, words in SUITES.values())
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-vv", *files, "-k", chosen]
    path = os.pathsep.join([str(copy / "src"), str(copy / "tests")])
    done = subprocess.run(command, cwd=copy, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = re.findall(r"^(tests/\S+?)::.* PASSED", done.stdout, re.MULTILINE)
    assert set(passed) == set(files), done.stdout[-3000:]


@pytest.mark.parametrize("thing", SUITES)
def test_the_table_names_the_suites(thing: str) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| {thing} |"))
    assert SUITES[thing][0] in row
