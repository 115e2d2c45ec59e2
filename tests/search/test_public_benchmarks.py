"""Public test sets are no objectives, unless somebody says so."""

from pathlib import Path

import pytest

from cuvee.errors import RecipeError
from cuvee.search.public_benchmarks import public_benchmark
from cuvee.search.setting import setting_of
from cuvee.search.space import parse_space

ROWS = "id,input,target,eval_type\n" + "".join(f"{place},say {place},{place},generation\n" for place in range(200))


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ("gsm8k", "gsm8k"),
        ("data/GSM8K-test.jsonl", "gsm8k"),
        ("mmlu_pro.csv", "mmlu"),
        ("my-mmlu-items.yaml", "mmlu"),
        ("ARC-Challenge.csv", "arc_challenge"),
        ("gsm8k-train.jsonl", ""),
        ("drop.csv", "drop"),
        ("drop-down-menus.csv", ""),
        ("sort", ""),
        ("arc.csv", ""),
    ],
)
def test_public_test_sets_are_known_by_their_names(task: str, found: str) -> None:
    assert public_benchmark(task) == found


def space_of(folder: Path, task: str, further: str = "") -> str:
    (folder / task).write_text(ROWS)
    return f"base_model: b\nmodels: [x, y]\ntasks: [{task}]\n{further}"


def test_a_space_with_a_public_test_set_is_refused(tmp_path: Path) -> None:
    space = parse_space(space_of(tmp_path, "gsm8k.csv"), folder=tmp_path, where="space.yaml")
    with pytest.raises(RecipeError, match="looks like the public test set 'gsm8k'"):
        setting_of(space)


def test_somebody_who_says_so_may_search_by_it(tmp_path: Path) -> None:
    text = space_of(tmp_path, "gsm8k.csv", "allow_public_benchmark: true\n")
    assert [task.name for task in setting_of(parse_space(text, folder=tmp_path, where="s")).tasks] == ["gsm8k"]
