"""Parts of a merge, made in any order, are joined to what the merge in one go writes."""

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

import cuvee
from cuvee.checkpoint.write import OutputTensor, lay_out
from cuvee.engine.parts import Part, join, run_part, share
from cuvee.engine.run import run_plan
from cuvee.errors import CheckpointError, MethodError, RecipeError
from cuvee.plan import Plan, make_plan

from .test_resume import contents

CUT = {"shard_bytes": 20_000}


def plan(family: Path, extra: str = "seed: 1\n", method: str = "dare_ties", more: str = "") -> Plan:
    models = "".join(f"  - model: {family}/{name}\n" for name in ("e0", "e1", "e2"))
    inputs = f"base_model: {family}/base\nmodels:\n{models}"
    text = f"merge_method: {method}\n{inputs}parameters: {{weight: 0.5{more}}}\n{extra}"
    return make_plan(cuvee.recipe_from_text(text))


def make(family: Path, out: Path, *parts: str, plan_: Plan | None = None, **options: Any) -> cuvee.PartResult:
    for part in parts:
        number, count = map(int, part.split("/"))
        made = run_part(plan_ or plan(family), out, Part(number, count), **{**CUT, **options})
    return made


@pytest.fixture(scope="module")
def whole(family: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return contents(run_plan(plan(family), tmp_path_factory.mktemp("whole") / "out", **CUT).folder)


@pytest.mark.parametrize("order", [["1/1"], *itertools.permutations(["1/3", "2/3", "3/3"])], ids="-".join)
def test_parts_in_any_order_are_the_whole(
    order: list[str], family: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    made = make(family, out, *order)
    assert made.missing == ()
    assert os.listdir(tmp_path) == [".out.partial"]
    result = join(out)
    assert contents(out) == whole
    assert result.digest == whole["record"]["weights_digest"]
    assert result.figures.cast_loss == whole["cast_loss"]
    assert os.listdir(tmp_path) == ["out"]


def test_more_parts_than_files_are_empty_and_still_needed(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    one = {"shard_bytes": 1 << 40}
    expected = contents(run_plan(plan(family), tmp_path / "whole", **one).folder)
    assert make(family, out, "2/2", **one).tensors == 0
    with pytest.raises(CheckpointError, match="part 1/2 is missing"):
        join(out)
    make(family, out, "1/2", **one)
    join(out)
    assert contents(out) == expected


def test_a_part_that_is_done_stays_so(family: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    first = make(family, tmp_path / "out", "1/2")
    assert str(first.missing[0]) == "2/2"
    assert make(family, tmp_path / "out", "1/2") == first
    make(family, tmp_path / "out", "2/2", "1/2")
    join(tmp_path / "out")
    assert contents(tmp_path / "out") == whole


class Interrupted:
    """Progress that stops a part after so many reads."""

    def __init__(self, reads: int) -> None:
        self.reads = reads

    def start(self, what: str, total: int, unit: str) -> None:
        pass

    def advance(self, amount: int) -> None:
        self.reads -= 1
        if self.reads < 0:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        pass

    def finish(self) -> None:
        pass


def test_a_part_that_was_stopped_is_missing_until_it_went_on(
    family: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    make(family, out, "1/2")
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        make(family, out, "2/2", progress=Interrupted(12))
    with pytest.raises(CheckpointError, match="part 2/2 is missing or not complete") as caught:
        join(out)
    assert "--part 2/2" in str(caught.value.hint)
    make(family, out, "2/2")
    join(out)
    assert contents(out) == whole


def test_join_names_all_parts_that_are_missing(family: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no parts to join"):
        join(tmp_path / "out")
    make(family, tmp_path / "out", "2/4")
    with pytest.raises(CheckpointError, match="parts 1/4, 3/4, 4/4 are missing"):
        join(tmp_path / "out")


def test_a_part_of_another_merge_is_refused_and_harms_nothing(
    family: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    make(family, out, "1/2")
    others: list[dict[str, Any]] = [{"plan_": plan(family, "seed: 2\n")}, {"shard_bytes": 25_000}]
    for other in others:
        with pytest.raises(RecipeError, match="a merge to this output was begun, but"):
            make(family, out, "2/2", **other)
    with pytest.raises(RecipeError, match="not split into the same parts"):
        make(family, out, "2/3")
    with pytest.raises(RecipeError, match="not split into the same parts"):
        run_plan(plan(family), out, **CUT)
    make(family, out, "2/2")
    join(out)
    assert contents(out) == whole


def test_no_resume_replaces_parts_of_another_merge_only(family: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    out = tmp_path / "out"
    make(family, out, "1/2", "2/2", plan_=plan(family, "seed: 2\n"))
    make(family, out, "1/2", resume=False)
    make(family, out, "2/2")
    assert make(family, out, "1/2", resume=False).missing == ()
    join(out)
    assert contents(out) == whole
    make(family, tmp_path / "next", "1/2")
    run_plan(plan(family), tmp_path / "next", resume=False, **CUT)
    assert contents(tmp_path / "next") == whole


def test_a_part_that_fails_leaves_the_others(family: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    out = tmp_path / "out"
    make(family, out, "1/2")

    class Failing(Interrupted):
        def advance(self, amount: int) -> None:
            self.reads -= 1
            if self.reads < 0:
                raise MethodError("fails")

    with pytest.raises(MethodError):
        make(family, out, "2/2", progress=Failing(12))
    assert sorted(os.listdir(tmp_path / ".out.partial")) == ["journal-1-of-2.jsonl", "model"]
    make(family, out, "2/2")
    join(out)
    assert contents(out) == whole


def test_a_lost_file_of_a_part_is_seen_and_made_anew(family: Path, tmp_path: Path, whole: dict[str, Any]) -> None:
    out = tmp_path / "out"
    files = make(family, out, "1/2", "2/2").files
    (tmp_path / ".out.partial" / "model" / files[0]).unlink()
    with pytest.raises(CheckpointError, match="is not what its part has written"):
        join(out)
    make(family, out, "2/2")
    join(out)
    assert contents(out) == whole


def test_a_part_that_is_damaged_is_not_joined_and_is_merged_again(
    family: Path, tmp_path: Path, whole: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    make(family, out, "1/2", "2/2")
    file = max((tmp_path / ".out.partial" / "model").glob("*.safetensors"))
    with file.open("r+b") as opened:
        opened.seek(-1, 2)
        last = opened.read(1)[0]
        opened.seek(-1, 2)
        opened.write(bytes([last ^ 1]))
    with pytest.raises(CheckpointError, match=r"is not what part ./2 has written"):
        join(out)
    results = [make(family, out, number) for number in ("1/2", "2/2")]
    assert sum("had changed on the disk" in warning for result in results for warning in result.warnings) == 1
    join(out)
    assert contents(out) == whole


def test_a_part_that_does_not_exist_is_refused(family: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no part 4/3"):
        make(family, tmp_path / "out", "4/3")
    assert os.listdir(tmp_path) == []


def test_a_method_that_looks_at_the_whole_model_does_so_in_every_part(family: Path, tmp_path: Path) -> None:
    chosen = plan(family, "", "geometric_median", ", scope: model")
    expected = contents(run_plan(chosen, tmp_path / "whole", **CUT).folder)
    make(family, tmp_path / "out", "1/2", "2/2", plan_=chosen)
    join(tmp_path / "out")
    assert contents(tmp_path / "out") == expected


def test_an_earlier_merge_is_replaced_by_parts_only_if_asked(family: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_plan(plan(family), out)
    with pytest.raises(RecipeError, match="exists already"):
        make(family, out, "1/1")
    assert os.listdir(tmp_path) == ["out"]
    make(family, out, "1/1", overwrite=True)
    with pytest.raises(RecipeError, match="exists already"):
        join(out)
    join(out, overwrite=True)
    assert os.listdir(tmp_path) == ["out"]


def test_shares_are_whole_balanced_and_disjoint() -> None:
    sizes = [900, 500, 400, 300, 200, 100, 100]
    shards = lay_out([OutputTensor(str(i), "U8", (n * 1000,)) for i, n in enumerate(sizes)], 1)
    for count in (1, 2, 3, 9):
        shares = [share(shards, Part(number, count)) for number in range(1, count + 1)]
        assert sorted(shard.file for one in shares for shard in one) == [shard.file for shard in shards]
    loads = [sum(shard.nbytes for shard in share(shards, Part(number, 2))) for number in (1, 2)]
    assert max(loads) - min(loads) <= 100_000
