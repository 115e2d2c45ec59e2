"""Three classifiers, reward models or embedding models are merged, and the blend measured against them by a command."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import cuvee
from cuvee.cli import main
from cuvee.evaluation import evaluate
from cuvee.evaluation.evaluated import read_evaluated

from .judges import save_classifier, save_embedder, save_reward

PAIRS = [(f"question {n}?", [f"yes {'o' * n}", f"no {n}"], n % 2) for n in range(12)]
ASKED = {
    "classifier": [(text, ["more", "less"], target) for text, _, target in PAIRS],
    "reward": PAIRS,
    "embedder": PAIRS,
}
MAKERS: dict[str, Callable[..., Path]] = {
    "classifier": partial(save_classifier, labels=("more", "less")),
    "reward": save_reward,
    "embedder": save_embedder,
}
PARENTS = ("first", "second", "third")


@pytest.mark.parametrize("kind", list(MAKERS))
def test_a_merge_of_three_is_measured_against_them(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(PARENTS):
        MAKERS[kind](tmp_path / name, seed=seed)
    sources = "".join(f"  - {{model: {name}, parameters: {{weight: 1}}}}\n" for name in PARENTS)
    (tmp_path / "recipe.yaml").write_text(f"merge_method: linear\nmodels:\n{sources}dtype: float32\n")
    cuvee.merge(cuvee.load_recipe(tmp_path / "recipe.yaml"), tmp_path / "blend")
    rows = [
        {"id": str(n), "input": text, "eval_type": "multiple_choice", "answer_choices": choices, "target": target}
        for n, (text, choices, target) in enumerate(ASKED[kind])
    ]
    task = tmp_path / "task.jsonl"
    task.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    command = ["cuvee", "evaluate", tmp_path / "blend", task, "--against-parents", "--out", out, "--json"]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    reports = [read_evaluated(folder).report for folder in sorted((out / "parents").iterdir())]
    assert [Path(report.model).name for report in reports] == list(PARENTS)
    for report in reports:
        assert report.tasks[0].scores == evaluate(report.model, [task]).tasks[0].scores
