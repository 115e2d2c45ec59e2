"""A model behind a server answers as the same model in memory does, and what a server cannot do is said."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cuvee.cli import main
from cuvee.errors import EvaluationError, RecipeError
from cuvee.evaluation import Prompt, Report, Sample, Task, evaluate
from cuvee.evaluation.client import Client
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.probe import probe
from cuvee.evaluation.served import Served, open_server

from .completions import Completions, serving

MERGES = ("x y", "n o", "e s")
"""With no space between, the first reaches over the border between a context and a choice."""

QUESTIONS = tuple(
    Sample(str(n), f"Question {n}: {'x' * (n % 4)}", "multiple_choice", ("yes", "no", "yes and no"), n % 3)
    for n in range(12)
)
TASKS = (
    Task("choices", QUESTIONS, ("accuracy",)),
    Task("joined", QUESTIONS, ("accuracy",), prompt=Prompt(choice_separator="")),
    Task(
        "texts",
        tuple(Sample(f"t{n}", f"Say {'y' * n}", "generation", (), "yes") for n in range(1, 6)),
        ("exact_match",),
        prompt=Prompt(max_new_tokens=6, stop=("e",)),
    ),
)


CHOICES, _, TEXTS = TASKS


@pytest.fixture(scope="module")
def local(make_model) -> LanguageModel:  # type: ignore[no-untyped-def]  # the fixture is of another file
    made: LanguageModel = make_model(*MERGES)
    return made


@pytest.fixture
def server(local: LanguageModel) -> Iterator[Completions]:
    with serving(Completions(local)) as running:
        yield running


@pytest.fixture
def served(server: Completions) -> Served:
    return open_server(server.address)


def answers(out: Path, task: str) -> dict[str, dict[str, object]]:
    lines = (out / "samples" / f"{task}.jsonl").read_text().splitlines()
    return {line["id"]: line for line in map(json.loads, lines)}


@pytest.mark.parametrize("scoring", ["sum", "per_byte", "per_character", "per_token"])
@pytest.mark.parametrize("writes", [True, False])
def test_a_server_gives_the_answers_of_the_model_in_memory(
    server: Completions, served: Served, local: LanguageModel, tmp_path: Path, scoring: str, writes: bool
) -> None:
    server.writes_after_echo = writes
    theirs = evaluate(served, TASKS, out=tmp_path / "theirs", scoring=scoring)  # type: ignore[arg-type]  # a literal
    ours = evaluate(local, TASKS, out=tmp_path / "ours", scoring=scoring)  # type: ignore[arg-type]  # a literal
    assert [task.items for task in theirs.tasks] == [task.items for task in ours.tasks]
    for task in ("choices", "joined"):
        one, other = (answers(tmp_path / name, task) for name in ("theirs", "ours"))
        for name, line in one.items():
            for mine, his in zip(other[name]["choices"], line["choices"], strict=True):  # type: ignore[call-overload]  # JSON
                assert his["log_likelihood"] == pytest.approx(mine["log_likelihood"], abs=1e-4)
                assert his["tokens"] == mine["tokens"]
    assert len(local.encode(["3: xxx"])[0]) + 3 > len(local.encode(["3: xxxyes"])[0])
    assert theirs.settings["server"] == server.address


def test_a_chat_is_sent_as_turns(served: Served, server: Completions) -> None:
    prompt = Prompt(chat_template=True, system="Be brief.", max_new_tokens=3)
    evaluate(served, [replace(TEXTS, prompt=prompt)])
    assert server.requests.count("/v1/chat/completions") == 5
    with pytest.raises(EvaluationError, match="echoes no chat"):
        evaluate(served, [replace(CHOICES, prompt=prompt)])


def test_a_rerun_asks_the_server_nothing(served: Served, server: Completions, tmp_path: Path) -> None:
    first = evaluate(served, TASKS, out=tmp_path, limit=5)
    asked = len(server.requests)
    assert steady(evaluate(served, TASKS, out=tmp_path, limit=5)) == steady(first)
    assert len(server.requests) == asked
    evaluate(served, TASKS, out=tmp_path, limit=7)
    assert len(server.requests) == asked + 4


def steady(report: Report) -> Report:
    return replace(report, seconds=0.0)


def test_a_busy_server_is_asked_again_and_a_wrong_request_is_not(server: Completions) -> None:
    waits: list[float] = []
    client = Client(server.address, sleep=waits.append)
    server.fails = [503, 429]
    assert client.get("models")["data"][0]["id"] == "tiny"
    assert waits == [1.0, 2.0]
    server.fails = [400]
    with pytest.raises(EvaluationError, match=r"answers 400: .*as told"):
        client.get("models")
    server.fails = [503] * 4
    with pytest.raises(EvaluationError, match="answers 503"):
        client.get("models")
    assert server.fails == []


def test_a_server_without_echo_cannot_score_choices_and_can_write(served: Served, server: Completions) -> None:
    server.echoes = False
    with pytest.raises(EvaluationError, match="does not tell the log-probabilities of a prompt"):
        evaluate(served, [CHOICES])
    assert len(evaluate(served, [TEXTS]).tasks[0].items) == 5


def test_the_kit_is_not_for_servers(served: Served) -> None:
    with pytest.raises(RecipeError, match="as the kit does"):
        evaluate(served, [CHOICES], scoring="kit")


def test_one_of_several_models_is_named(server: Completions) -> None:
    server.names = ("a", "b")
    with pytest.raises(RecipeError, match="2 models") as caught:
        open_server(server.address)
    assert f"{server.address}#NAME" in str(caught.value)
    assert open_server(f"{server.address}#b").model == "b"
    assert open_server(f"{server.address}#a").digest != open_server(f"{server.address}#b").digest
    with pytest.raises(EvaluationError, match="no model 'c'"):
        open_server(f"{server.address}#c")


def test_a_key_is_sent(server: Completions) -> None:
    server.key = "secret"
    with pytest.raises(EvaluationError, match="401"):
        open_server(server.address)
    assert open_server(server.address, key="secret").model == "tiny"


def test_nobody_at_the_address_is_said_at_once(server: Completions) -> None:
    with pytest.raises(EvaluationError, match="does not answer"):
        open_server("http://127.0.0.1:9/v1")


def test_the_probe_tells_the_same_model_from_another(
    served: Served,
    server: Completions,
    local: LanguageModel,
    make_model,  # type: ignore[no-untyped-def]  # the fixture is of another file
) -> None:
    found = probe(served, local, TASKS)
    assert found.items == 8 + 8 + 5
    assert found.largest < 1e-4
    with pytest.raises(EvaluationError, match="scores otherwise"):
        probe(served, make_model(*MERGES, seed=1), TASKS)
    with pytest.raises(EvaluationError, match="scores otherwise"):
        probe(served, make_model(), TASKS)
    server.start = False
    with pytest.raises(EvaluationError, match="scores otherwise"):
        probe(served, local, TASKS)


def test_the_command_takes_an_address_and_probes_it(
    server: Completions,
    local: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        {"id": s.id, "input": s.input, "eval_type": s.eval_type, "answer_choices": s.choices, "target": s.target}
        for s in QUESTIONS
    ]
    (tmp_path / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["evaluate", server.address, str(tmp_path / "task.jsonl"), "--out", str(tmp_path / "out"), "--json"]
    monkeypatch.setattr(sys, "argv", ["cuvee", *arguments, "--probe", local.name])
    main_exit()
    said = capsys.readouterr()
    assert json.loads(said.out)["tasks"]["task"]["n"] == 12
    assert "probe: 8 items agree within" in said.err
    assert (tmp_path / "out" / "report.html").is_file()
    monkeypatch.setattr(sys, "argv", ["cuvee", *arguments, "--against-parents"])
    assert main_exit() == 2


def main_exit() -> int:
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0
