"""Reading tasks: what is kept as written, and what is refused, where and how."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuvee.errors import EvaluationError
from cuvee.evaluation.extract import Extraction
from cuvee.evaluation.load import load_task
from cuvee.evaluation.prompt import Prompt, Shot
from cuvee.evaluation.rows import read_samples
from cuvee.evaluation.task import Sample

HEADER = "id,input,target,answer_choices,eval_type\n"


def write(folder: Path, text: str, name: str = "task.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def write_task(folder: Path, yaml: str) -> Path:
    write(folder, HEADER + "0,2+2?,4,,generation\n", "data.csv")
    return write(folder, yaml, "task.yaml")


def test_both_column_orders_give_the_same_samples(tmp_path: Path) -> None:
    one = write(tmp_path, HEADER + "7,Is it?,1,\"['No', 'Yes']\",multiple_choice\n", "one.csv")
    other = write(
        tmp_path,
        "id,input,eval_type,answer_choices,target\n7,Is it?,multiple_choice,\"['No', 'Yes']\",1\n",
        "other.csv",
    )
    assert read_samples(one) == (Sample("7", "Is it?", "multiple_choice", ("No", "Yes"), 1),)
    assert read_samples(one) == read_samples(other)


def test_cells_stay_as_they_are_written(tmp_path: Path) -> None:
    rows = 'NA," null\nline ""two"" ",\'3.90\',None,generation\n'
    assert read_samples(write(tmp_path, HEADER + rows)) == (
        Sample("NA", ' null\nline "two" ', "generation", (), "'3.90'"),
    )


@pytest.mark.parametrize(
    ("written", "choices"),
    [
        ("""['3.89', '$6,984 ']""", ("3.89", "$6,984 ")),
        ("""["it's", 'a "b"']""", ("it's", 'a "b"')),
        ("""["one", "two"]""", ("one", "two")),
        ("""[3.10, 20]""", ("3.10", "20")),
    ],
)
def test_choices_are_json_or_python_lists_and_stay_text(tmp_path: Path, written: str, choices: tuple[str, ...]) -> None:
    cell = '"' + written.replace('"', '""') + '"'
    samples = read_samples(write(tmp_path, HEADER + f"0,q,0,{cell},multiple_choice\n"))
    assert samples[0].choices == choices


def test_an_index_above_nine_survives(tmp_path: Path) -> None:
    letters = str([chr(97 + place) for place in range(12)])
    samples = read_samples(write(tmp_path, HEADER + f'0,q,11,"{letters}",multiple_choice\n'))
    assert samples[0].target == 11


def test_a_target_may_be_the_text_of_a_choice_or_absent(tmp_path: Path) -> None:
    rows = "0,q,Yes,\"['No', 'Yes']\",multiple_choice\n1,q,,\"['No', 'Yes']\",multiple_choice\n"
    assert [sample.target for sample in read_samples(write(tmp_path, HEADER + rows))] == [1, None]


def targets(folder: Path, *rows: tuple[str, list[str]]) -> list[object]:
    lines = [
        json.dumps({"id": str(place), "input": "q", "eval_type": "multiple_choice", "answer_choices": c, "target": t})
        for place, (t, c) in enumerate(rows)
    ]
    return [sample.target for sample in read_samples(write(folder, "\n".join(lines), "task.jsonl"))]


def test_a_number_that_is_no_index_may_be_the_text_of_a_choice(tmp_path: Path) -> None:
    assert targets(tmp_path, ("7", ["2", "3", "7"]), ("3", ["0", "1", "2", "3"])) == [2, 3]


def test_a_number_that_could_be_either_is_an_index_in_a_file_of_indices(tmp_path: Path) -> None:
    assert targets(tmp_path, ("2", ["2", "3", "7"]), ("0", ["No", "Yes"])) == [2, 0]


def test_a_number_that_could_be_either_is_refused_in_a_file_that_gives_texts(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"jsonl:1: the target is an index and also .*task\.jsonl:2 gives a text"):
        targets(tmp_path, ("2", ["2", "3", "7"]), ("7", ["2", "3", "7"]))


def test_json_lines_keep_the_digits_of_numbers(tmp_path: Path) -> None:
    lines = (
        '{"id": 3, "input": "q", "eval_type": "generation", "target": 2.50, "answer_choices": null}\n'
        '\n{"id": "x", "input": "q", "eval_type": "multiple_choice", "target": 0, "answer_choices": ["a", "b"]}\n'
    )
    assert read_samples(write(tmp_path, lines, "task.jsonl")) == (
        Sample("3", "q", "generation", (), "2.50"),
        Sample("x", "q", "multiple_choice", ("a", "b"), 0),
    )


def test_all_bad_rows_are_named_at_once(tmp_path: Path) -> None:
    rows = [
        "0,fine,4,,generation",
        "1,\"two\nlines\",9,\"['a', 'b']\",multiple_choice",
        "2,q,0,['a'],multiple_choice",
        "0,again,4,,generation",
        "4, ,0,,classification",
        "5,q,0,a or b,multiple_choice",
    ]
    with pytest.raises(EvaluationError) as caught:
        read_samples(write(tmp_path, HEADER + "\n".join(rows) + "\n"))
    assert [(Path(str(problem.where)).name, problem.message) for problem in caught.value.problems] == [
        ("task.csv:3", "target 9 is not one of the 2 choices, which count from 0"),
        ("task.csv:5", "multiple choice with 1 answer_choices; at least 2 are needed"),
        ("task.csv:6", "id '0' appears twice"),
        ("task.csv:7", "input is blank"),
        ("task.csv:7", "eval_type is 'classification', not 'multiple_choice', 'generation', 'similarity' or 'text'"),
        ("task.csv:8", "answer_choices is neither a JSON list nor a Python list literal"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,input,eval_type,targt\n0,q,generation,4\n", "unknown column 'targt'"),
        ("id;input;eval_type\n0;q;generation\n", "hint: columns are separated by commas"),
        ("ID,input,eval_type\n0,q,generation\n", "hint: did you mean 'id'"),
        ("id,input\n0,q\n", "no column 'eval_type'"),
        (HEADER + "0,q\n", "2 cells, but the header names 5 columns"),
        (HEADER + '0,"q"x,4,,generation\n', "not a CSV row"),
        (HEADER, "no rows"),
        (HEADER + f'0,q,0,"{"[" * 5000}",multiple_choice\n', "neither a JSON list nor a Python list literal"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        read_samples(write(tmp_path, text))


@pytest.mark.parametrize(
    "line", ['{"id": 1', "[1]", '{"id": "1", "input": 3, "eval_type": NaN}', '{"id": "1", "id": "2"}']
)
def test_broken_json_lines_are_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(EvaluationError, match=r"task\.jsonl:1"):
        read_samples(write(tmp_path, line + "\n", "task.jsonl"))


def test_half_of_a_character_is_refused(tmp_path: Path) -> None:
    row = {"id": "1", "input": "cut \ud83d", "eval_type": "generation"}
    with pytest.raises(EvaluationError, match=r"task\.jsonl:1: \\ud83d is half of a character"):
        read_samples(write(tmp_path, json.dumps(row), "task.jsonl"))


@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=4))
def test_json_lines_give_back_any_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    row = {"id": texts[0], "input": texts[1], "eval_type": "multiple_choice", "answer_choices": texts}
    samples = read_samples(write(tmp_path_factory.mktemp("rows"), json.dumps(row), "task.jsonl"))
    assert samples == (Sample(texts[0], texts[1], "multiple_choice", tuple(texts), None),)


def test_a_task_file_is_read_whole(tmp_path: Path) -> None:
    yaml = """
name: sums
data: data.csv
metrics: [number_match, exact_match]
weight: 2
license: CC0-1.0
prompt:
  template: "Q: {input} {} A:"
  few_shot: [{input: "1+1?", target: "2"}]
  stop: ["."]
  max_new_tokens: 5
  extract: ["is (\\\\d+)"]
  choice_separator: " "
"""
    task = load_task(write_task(tmp_path, yaml))
    assert (task.name, task.weight, task.metrics, task.license) == (
        "sums",
        2.0,
        ("number_match", "exact_match"),
        "CC0-1.0",
    )
    assert task.prompt == Prompt(
        template="Q: {input} {} A:",
        few_shot=(Shot("1+1?", "2"),),
        stop=(".",),
        max_new_tokens=5,
        extract=(Extraction(r"is (\d+)"),),
        choice_separator=" ",
    )


def test_few_shot_examples_stand_before_the_question() -> None:
    prompt = Prompt(template="Q: {input} A:", few_shot=(Shot("1+1?", "2"), Shot("{input}", "3")))
    assert prompt.render("2+2?") == "Q: 1+1? A: 2\n\nQ: {input} A: 3\n\nQ: 2+2? A:"


def test_all_problems_of_a_task_file_are_named_with_their_lines(tmp_path: Path) -> None:
    yaml = """name: sums
data: data.csv
metric: [f1]
prompt:
  templte: "{input}"
  chat_template: 1
  answer_by: guess
  max_new_tokens: 0
  extract: ["("]
  few_shot:
    - input: a
"""
    with pytest.raises(EvaluationError) as caught:
        load_task(write_task(tmp_path, yaml))
    found = {(str(problem.where).rpartition(":")[2], problem.message) for problem in caught.value.problems}
    assert found == {
        ("3", "unknown key 'metric'"),
        ("5", "unknown key 'prompt.templte'"),
        ("6", "'prompt.chat_template': input should be a valid boolean, found 1"),
        ("7", "'prompt.answer_by': input should be 'likelihood' or 'generation', found 'guess'"),
        ("8", "'prompt.max_new_tokens': input should be greater than or equal to 1, found 0"),
        ("9", "'prompt.extract.0.pattern': not a regular expression: missing ), unterminated subpattern at position 0"),
        ("11", "'prompt.few_shot.0.target' is missing"),
    }
    assert "did you mean 'template'?" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("metrics: [exact_mach]", "unknown metric 'exact_mach'\n  hint: did you mean 'exact_match'?"),
        ("metrics: [rougel]", "unknown metric 'rougel'\n  hint: did you mean 'rougeL'?"),
        ("metrics: [accuracy]", "'accuracy' needs multiple-choice items; not so for id 0"),
        ("name: again", "key 'name' is written twice, first on line 1"),
        ("prompt: {template: 'Q: {question}'}", "unknown placeholder '{question}'"),
        ("prompt: {template: 'Q:'}", "has no '{input}'"),
        ("license: &a x\nweight: *a", "'weight': input should be a valid number, found 'x'"),
        ("prompt: [", "not YAML"),
        ("weight: .nan", "weight"),
    ],
)
def test_a_bad_line_of_a_task_file_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        load_task(write_task(tmp_path, f"name: sums\ndata: data.csv\n{line}\n"))
    assert message in str(caught.value)


def test_a_task_name_cannot_leave_the_output_folder(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="name"):
        load_task(write_task(tmp_path, "name: ../sums\ndata: data.csv\n"))


def test_unknown_tasks_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no bundled task 'sums'"):
        load_task("sums")
    with pytest.raises(EvaluationError, match="no such task file"):
        load_task(tmp_path / "sums.csv")


def test_the_metric_of_a_bare_file_follows_its_rows(tmp_path: Path) -> None:
    choice = "0,q,0,\"['a', 'b']\",multiple_choice\n"
    text = "1,q,x,,generation\n"
    assert load_task(write(tmp_path, HEADER + choice)).metrics == ("accuracy",)
    assert load_task(write(tmp_path, HEADER + choice + text)).metrics == ("exact_match",)


def test_the_digest_covers_content_and_not_place_or_weight(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = load_task(write_task(tmp_path, "name: a\ndata: data.csv\n"))
    same = load_task(write_task(tmp_path / "other", "name: b\ndata: data.csv\nweight: 3\n"))
    changed = load_task(write_task(tmp_path, "name: a\ndata: data.csv\nprompt: {choice_separator: ''}\n"))
    assert one.digest == same.digest
    assert one.digest != changed.digest
