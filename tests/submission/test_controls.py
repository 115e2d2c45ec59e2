"""What a final asks besides its private items, and boards by parts that nobody has."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.errors import EvaluationError, PlatformError, RecipeError
from cuvee.evaluation import Sample, Task
from cuvee.evaluation.prompt import Prompt
from cuvee.submission.answers import write_without_targets
from cuvee.submission.competition import Competition, Controls
from cuvee.submission.competition_yaml import load_competition, parse_competition
from cuvee.submission.controls import paraphrased, shuffled
from cuvee.submission.data_room import open_data_room
from cuvee.submission.inside import evaluate_order
from cuvee.submission.judge import judge
from cuvee.submission.measure import AGAIN, PRIVATE, PUBLIC, Parts, load_parts, measure, measure_beside
from cuvee.submission.organise import check_competition
from cuvee.submission.verdict import Verdict
from submission.conftest import AVERAGE, packed

LISTED = Prompt(template="{input}\n{choices}")
ITEMS = 30


def choice_task(prompt: Prompt = LISTED) -> Task:
    choices = ("red", "green", "blue", "white")
    samples = [Sample(f"i{n}", f"which {n}?", "multiple_choice", choices, n % 4) for n in range(ITEMS)]
    return Task("t", tuple(samples), ("accuracy",), prompt=prompt)


def answered(folder: Path, name: str, task: Task, right: float) -> None:
    """Let somebody answer so many items rightly, and the rest wrongly."""
    lines = []
    for place, sample in enumerate(task.samples):
        prediction = sample.target
        if place >= right * len(task.samples):
            prediction = (int(sample.target or 0) + 1) % 4 if sample.choices else "no"
        lines.append(json.dumps({"id": sample.id, "prediction": prediction, "tokens": 3, "cut": 0}))
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


@given(st.integers(2, 9), st.text(min_size=1, max_size=9), st.data())
def test_no_choice_stays_where_it_was_and_the_right_one_stays_right(count: int, name: str, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count - 1))
    choices = tuple(f"choice {n}" for n in range(count))
    task = Task("t", (Sample(name, "?", "multiple_choice", choices, right),), ("accuracy",), prompt=LISTED)
    [sample] = shuffled(task).samples
    assert sorted(sample.choices) == sorted(choices)
    assert all(one != other for one, other in zip(sample.choices, choices, strict=True))
    assert isinstance(sample.target, int)
    assert sample.choices[sample.target] == choices[right]


def test_another_order_is_refused_where_it_would_change_nothing() -> None:
    with pytest.raises(EvaluationError, match="does not show its choices"):
        shuffled(choice_task(Prompt()))
    with pytest.raises(EvaluationError, match="no item of 't' has choices"):
        shuffled(Task("t", (Sample("a", "?", "generation", (), "x"),), ("exact_match",), prompt=LISTED))


def test_paraphrases_are_of_private_items_and_in_other_words() -> None:
    task = choice_task()
    other = replace(task, samples=(Sample("i3", "in other words 3?", "multiple_choice", ("a", "b"), 0),))
    [sample] = paraphrased(task, other).samples
    assert (sample.input, sample.choices, sample.target) == ("in other words 3?", task.samples[3].choices, 3)
    with pytest.raises(EvaluationError, match="'i99' is no private item of 't'"):
        paraphrased(task, replace(task, samples=(replace(task.samples[0], id="i99"),)))
    with pytest.raises(EvaluationError, match="has the words of the item itself"):
        paraphrased(task, task)


def test_who_has_learned_positions_and_canaries_shows_it_and_who_has_not_does_not(tmp_path: Path) -> None:
    task = choice_task()
    canaries = replace(task, samples=tuple(replace(sample, id=f"c{sample.id}") for sample in task.samples))
    parts = Parts(
        {"t": replace(task, samples=task.samples[:2])},
        {"t": task},
        controls={"shuffled": {"t": shuffled(task)}, "canaries": {"t": canaries}},
        again={"t": task},
    )
    found = {}
    for who, right, elsewhere in (("cheat", 0.9, 0.9), ("honest", 0.9, 0.25)):
        folder = tmp_path / who
        folder.mkdir()
        answered(folder, f"{PUBLIC}.t", parts.public["t"], right)
        answered(folder, f"{PRIVATE}.t", task, right)
        answered(folder, f"{AGAIN}.t", task, right)
        answered(folder, "shuffled.t", shuffled(task), 0.2 if who == "cheat" else right)
        answered(folder, "canaries.t", canaries, elsewhere)
        scores = measure_beside(parts, measure(parts, folder), folder)
        assert scores is not None
        found[who] = {control.kind: control for control in scores.controls}
        assert scores.agreement == {"t": 1.0}
    assert found["cheat"]["shuffled"].value == pytest.approx(0.7)
    assert found["cheat"]["shuffled"].low > 0.4
    assert found["cheat"]["canaries"].low > 0.3
    assert found["honest"]["shuffled"].low <= 0 <= found["honest"]["shuffled"].high
    assert found["honest"]["canaries"].low <= 0 <= found["honest"]["canaries"].high


HIDDEN = """
  - name: odd
    public: tasks/odd.yaml
    leaderboard: private/tasks/board.yaml
    private: private/tasks/odd.yaml
    controls: {paraphrases: private/tasks/words.csv}
  - name: sort
    public: tasks/sort.yaml
    private: private/tasks/sort.yaml
    controls: {canaries: private/tasks/canaries.csv}
"""


@pytest.fixture(scope="module")
def hidden(competition: Competition, tmp_path_factory: pytest.TempPathFactory) -> Competition:
    """Two tasks of the bundled competition: a board by hidden items of one, controls of both, sampled texts."""
    folder = shutil.copytree(competition.folder, tmp_path_factory.mktemp("hidden") / "family")
    place = folder / "private" / "tasks"
    head, *rows = (place / "odd.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (place / "board.csv").write_text(head + "".join(rows[-3:]), encoding="utf-8")
    (place / "odd.csv").write_text(head + "".join(rows[:-3]), encoding="utf-8")
    (place / "words.csv").write_text(head + rows[0].replace("Odd: ", "Odd one out: "), encoding="utf-8")
    (place / "canaries.csv").write_text(
        "id,input,target,eval_type\nc1,Sort: zyx wvu ->,seen before,generation\n", encoding="utf-8"
    )
    task = (place / "odd.yaml").read_text(encoding="utf-8")
    (place / "board.yaml").write_text(task.replace("data: odd.csv", "data: board.csv"), encoding="utf-8")
    task = (place / "sort.yaml").read_text(encoding="utf-8")
    (place / "sort.yaml").write_text(task + "\n  temperature: 1.0\n", encoding="utf-8")
    before, rest = competition.text.split("tasks:\n", 1)
    after = rest[rest.index("\nmodels:") :].replace(", task: middle,", ",").replace(", task: reverse,", ",")
    text = f"{before}tasks:{HIDDEN}{after.replace(', task: shift,', ',')}"
    (folder / "competition.yaml").write_text(text, encoding="utf-8")
    opened = load_competition(folder)
    return replace(opened, tasks=tuple(replace(each, limit=4) for each in opened.tasks))


@pytest.fixture(scope="module")
def verdict(hidden: Competition, tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    folder = tmp_path_factory.mktemp("judged")
    return judge(packed(folder, hidden, AVERAGE), hidden, folder / "work", private_items=hidden.folder)


def test_a_board_is_by_the_part_that_nobody_has(verdict: Verdict) -> None:
    assert (verdict.outcome, verdict.message) == ("accepted", "")
    assert verdict.public is not None
    assert verdict.public.part == "leaderboard"
    assert {task: len(items) for task, items in verdict.public.items.items()} == {"odd": 3, "sort": 4}


def test_a_final_says_what_controls_and_second_answers_tell(verdict: Verdict) -> None:
    assert verdict.private is not None
    controls = {(control.task, control.kind): control for control in verdict.private.controls}
    assert controls.keys() == {("odd", "paraphrased"), ("sort", "canaries")}
    assert controls["sort", "canaries"].value == 0.0, "nobody has seen it"
    assert verdict.private.agreement.keys() == {"sort"}, "the one task that is decoded by chance"
    assert 0 <= verdict.private.agreement["sort"] < 1
    assert Verdict.from_json(verdict.to_json()) == verdict
    assert "agreement" not in json.dumps(verdict.for_participants().to_json())


def test_hidden_files_are_not_handed_out_and_the_check_finds_nothing_wrong(hidden: Competition) -> None:
    from cuvee.hub import Hub

    names = {file.name for file in open_data_room(hidden).files}
    assert not [name for name in names if name.startswith("private")]
    assert check_competition(hidden, Hub(offline=True)).problems == ()
    shown = replace(hidden, tasks=tuple(replace(each, leaderboard="tasks/odd.yaml") for each in hidden.tasks))
    with pytest.raises(RecipeError, match="would be handed out, and it is private"):
        open_data_room(shown)


def test_without_the_hidden_files_the_public_part_is_measured(hidden: Competition) -> None:
    parts = load_parts(hidden, None)
    assert parts.board == parts.public
    assert not parts.asked_beside()


def test_a_control_that_cannot_be_asked_is_told_before_anything_is_judged(hidden: Competition) -> None:
    tasks = tuple(replace(each, controls=Controls(shuffled=True)) for each in hidden.tasks)
    with pytest.raises(PlatformError, match="a control of task 'odd' cannot be asked: 'odd' does not show its choices"):
        load_parts(replace(hidden, tasks=tasks), hidden.folder)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("{name: a, public: a.csv, leaderboard: a.csv}", "the leaderboard part is another part, too"),
        ("{name: a, public: a.csv, controls: {shuffled: true}}", "has controls and no private part"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(hidden: Competition, written: str, said: str) -> None:
    before, rest = hidden.text.split("tasks:\n", 1)
    text = f"{before}tasks:\n  - {written}\n{rest[rest.index('models:') : rest.index('calibration:')]}"
    with pytest.raises(RecipeError, match=said):
        parse_competition(text, folder=hidden.folder)


def test_a_recipe_does_not_choose_the_seed_by_which_its_texts_are_drawn(hidden: Competition, tmp_path: Path) -> None:
    parts = load_parts(hidden, hidden.folder)
    asked = {"first": parts.private["sort"], "again": parts.again["sort"]}
    found = {}
    for name, prompt in (("honest", {}), ("lucky", {"seed": 7})):
        model = shutil.copytree(hidden.folder / "models" / "sort", tmp_path / name)
        (model / "cuvee.json").write_text(json.dumps({"prompt": prompt}))
        tasks = write_without_targets(asked, tmp_path / f"{name}-questions")
        out = tmp_path / f"{name}-out"
        evaluate_order({"model": str(model), "tasks": tasks, "output": str(out), "device": "cpu"})
        samples = out / "answers" / "samples"
        found[name] = {part: predictions(samples / f"{part}.jsonl") for part in asked}
    assert found["lucky"] == found["honest"]
    assert found["lucky"]["first"] != found["lucky"]["again"]


def predictions(answers: Path) -> list[str]:
    return [json.loads(line)["prediction"] for line in answers.read_text(encoding="utf-8").splitlines()]
