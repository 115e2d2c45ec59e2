"""The sets of examples/large: planned in their real shapes, and run through on tiny models of the same structure."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

pytest.importorskip("transformers")

from hub.server import LocalHub, running  # after the skips
from large.families import put_headers, put_tiny

EXAMPLES = Path(__file__).parents[2] / "examples" / "large"
SETS = {"instruct": 8_030, "thinking": 4_022, "domains": 3_212}
"""Millions of parameters of the models."""

TASK = {"name": "letters", "data": "letters.jsonl", "metrics": ["exact_match"], "prompt": {"max_new_tokens": 4}}


@pytest.fixture(scope="module")
def run() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    import run

    yield run
    sys.path.remove(str(EXAMPLES))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A hub that every program in this process reaches."""
    from huggingface_hub import constants

    with running(LocalHub()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def task_file(folder: Path) -> str:
    rows = [{"id": str(n), "input": f"{n}", "target": "a", "eval_type": "generation"} for n in range(6)]
    (folder / "letters.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "letters.yaml").write_text(yaml.safe_dump(TASK))
    return str(folder / "letters.yaml")


def names_of(name: str) -> list[str]:
    content = yaml.safe_load((EXAMPLES / name / "set.yaml").read_text())
    return [content["base"], *content["models"]]


CARDS = [("instruct", "l40s"), ("thinking", "a100-80gb"), ("domains", "l40s")]


@pytest.mark.parametrize(("name", "card"), CARDS)
def test_every_set_plans_within_48_gb_in_its_real_shapes(
    run: ModuleType, server: LocalHub, name: str, card: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_headers(server, names_of(name))
    work = tmp_path / "work"
    run.main([name, str(work), "--plan", "--rates", str(EXAMPLES / "rates" / f"{card}.json"), "--price", "3"])
    plan = json.loads((work / "plan.json").read_text())
    assert plan["shape"]["parameters"] // 1_000_000 == SETS[name]
    assert plan["fits"] == {"48": True, "80": True}
    assert plan["cost"] == pytest.approx(3 * plan["seconds"] / 3600)
    assert "cost:" in capsys.readouterr().out
    assert server.sent < 60_000_000
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def run_tiny(run: ModuleType, server: LocalHub, name: str, folder: Path, *more: str) -> Path:
    """Run a set on tiny models and a task of six items, and return its folder."""
    put_tiny(server, names_of(name), folder / "models")
    run.main([name, str(folder / "work"), "--device", "cpu", "--tasks", task_file(folder), *more])
    return folder / "work"


@pytest.mark.parametrize("name", ["instruct", "domains"])
def test_the_script_pins_merges_measures_and_writes_a_page(
    run: ModuleType, server: LocalHub, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = run_tiny(run, server, name, tmp_path)
    commits = json.loads((work / "commits.json").read_text())
    assert commits == {model: server.repos[model].commit for model in names_of(name)}
    blends = {blend.name: cuvee_record(blend) for blend in (work / "blends").iterdir()}
    assert set(blends) == {"task_arithmetic", "ties", "tsv_m"}
    for record in blends.values():
        assert [given["revision"] for given in record["inputs"]] == [commits[model] for model in names_of(name)]
    assert json.loads((work / "blends" / "ties" / "config.json").read_text())["vocab_size"] == 576
    assert (work / "report.html").is_file()
    assert "95 % interval" in capsys.readouterr().out


def cuvee_record(blend: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((blend / "cuvee.json").read_text())
    return record


def written(work: Path) -> dict[str, int]:
    """Return when each blend and each report was written."""
    files = [*(work / "blends").glob("*/cuvee.json"), *(work / "scores").glob("*/report.json")]
    return {str(file): file.stat().st_mtime_ns for file in files}


def test_later_runs_take_the_commits_of_the_first_and_do_nothing_again(
    run: ModuleType, server: LocalHub, tmp_path: Path
) -> None:
    work = run_tiny(run, server, "thinking", tmp_path)
    commits = (work / "commits.json").read_text()
    before = written(work)
    for repo in server.repos.values():
        repo.branches, repo.commit = (repo.commit,), "f" * 40  # what main was is now an old commit
    run.main(["thinking", str(work), "--device", "cpu", "--tasks", str(tmp_path / "letters.yaml")])
    assert (work / "commits.json").read_text() == commits
    assert written(work) == before


def test_a_thinking_family_is_scored_against_the_tokens_it_writes(
    run: ModuleType, server: LocalHub, tmp_path: Path
) -> None:
    work = run_tiny(run, server, "thinking", tmp_path)
    rows = {row["model"]: row for row in json.loads((work / "tokens.json").read_text())}
    assert {"line_25", "slerp", "Qwen3-4B-Thinking-2507", "Qwen3-4B-Instruct-2507"} <= set(rows)
    for row in rows.values():
        tokens, low, high = row["tokens"]
        assert 0 <= low <= tokens <= high
    assert any(row["unbeaten"] for row in rows.values())
    config = json.loads((work / "blends" / "ties" / "config.json").read_text())
    assert config["max_position_embeddings"] == 256


def test_texts_add_the_recipe_that_aligns(run: ModuleType, server: LocalHub, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in names_of("instruct")[1:]:
        rows = [{"input": f"{number} and", "target": f" {number}"} for number in range(4)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (texts / f"{name.rpartition('/')[2]}.jsonl").write_text(text)
    work = run_tiny(run, server, "instruct", tmp_path, "--texts", str(texts))
    assert "align" in cuvee_record(work / "blends" / "aligned")
