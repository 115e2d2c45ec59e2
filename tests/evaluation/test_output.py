"""Places that cannot be written to: said before the model is loaded, with the kind of error that tells whose it is."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cuvee.errors import CheckpointError, CuveeError, EvaluationError, OutOfBudget, RecipeError
from cuvee.evaluation import Sample, Task, evaluate
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.samples import append

TASK = Task(
    "task",
    tuple(Sample(str(n), f"Question {n}?", "multiple_choice", ("yes", "no"), n % 2) for n in range(60)),
    ("accuracy",),
)


@contextmanager
def files_no_larger_than(nbytes: int) -> Iterator[None]:
    """Let writing fail as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def a_file(folder: Path) -> Path:
    (folder / "out").write_text("a file\n")
    return folder / "out"


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "deep" / "out"


def a_broken_link(folder: Path) -> Path:
    (folder / "out").symlink_to(folder / "nowhere")
    return folder / "out"


def a_long_name(folder: Path) -> Path:
    return folder / ("x" * 300)


def where_nothing_can_be_made(folder: Path) -> Path:
    return Path("/proc/nope")


def samples_in_the_way(folder: Path) -> Path:
    (folder / "samples").write_text("a file\n")
    return folder


def report_in_the_way(folder: Path) -> Path:
    (folder / "report.json").mkdir()
    return folder


def answers_in_the_way(folder: Path) -> Path:
    (folder / "samples" / "task.jsonl").mkdir(parents=True)
    return folder


PLACES = [
    a_file,
    below_a_file,
    a_broken_link,
    a_long_name,
    where_nothing_can_be_made,
    samples_in_the_way,
    report_in_the_way,
    answers_in_the_way,
]


@pytest.mark.parametrize("place", PLACES)
def test_a_bad_place_is_the_authors_mistake_and_said_before_the_model_is_loaded(
    place: Callable[[Path], Path], tmp_path: Path
) -> None:
    out = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RecipeError) as caught:
        evaluate(tmp_path / "no model", [TASK], out=out)
    assert str(caught.value.where).startswith((str(tmp_path), "/proc/nope"))
    assert "cannot write the output" in caught.value.message
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_is_said_before_the_model_is_loaded(tmp_path: Path) -> None:
    with files_no_larger_than(0), pytest.raises(OutOfBudget, match="File too large"):
        evaluate(tmp_path / "no model", [TASK], out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_cannot_be_loaded_leaves_no_output(tmp_path: Path) -> None:
    with pytest.raises((EvaluationError, CheckpointError)):
        evaluate(tmp_path / "no model", [TASK], out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_no_defect_and_a_rerun_continues(model: LanguageModel, tmp_path: Path) -> None:
    with files_no_larger_than(5000), pytest.raises(OutOfBudget) as caught:
        evaluate(model, [TASK], out=tmp_path, batch_size=10)
    assert str(caught.value.where).startswith(str(tmp_path))
    file = tmp_path / "samples" / "task.jsonl"
    kept = file.read_bytes()
    assert file.stat().st_size <= 5000
    assert kept.count(b"\n") >= 10
    report = evaluate(model, [TASK], out=tmp_path, batch_size=10)
    assert report.tasks == evaluate(model, [TASK], batch_size=10).tasks
    assert file.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_device_is_out_of_budget(model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "full.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutOfBudget, match="No space left"):
        append(tmp_path, "full", [{"id": "0"}], ["0"])
    monkeypatch.setattr("cuvee.documents.whole.secrets.token_hex", lambda _: "0")
    (tmp_path / ".report.json.0.partial").symlink_to("/dev/full")
    with pytest.raises(OutOfBudget, match="No space left"):
        evaluate(model, [TASK], out=tmp_path)


def test_a_folder_that_appears_in_the_way_while_it_runs_is_no_defect(model: LanguageModel, tmp_path: Path) -> None:
    report = evaluate(model, [TASK], out=tmp_path)
    (tmp_path / "submission.csv").unlink()
    (tmp_path / "submission.csv").mkdir()
    with pytest.raises(CuveeError) as caught:
        report.write(tmp_path)
    assert caught.value.exit_code == 2
