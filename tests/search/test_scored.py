"""The scores of a search: those of plain computations, between 0 and 1."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cuvee.demo import model_folder
from cuvee.errors import SearchError
from cuvee.evaluation import evaluate, load_task
from cuvee.evaluation.task import Sample, Task
from cuvee.search.resident import Resident

BASE = str(model_folder("base"))
LINES = ["Reverse: k d w -> w d k", "Sort: 5 2 4 2 -> 2 2 4 5", "Odd: ant bee red -> red"]


def measured(task: Task) -> list[float]:
    resident = Resident([BASE], [task], device="cpu")
    resident.apply(f"merge_method: passthrough\nmodels: [{{model: {BASE}}}]\n")
    return resident.measure({task.name: [sample.id for sample in task.samples]}).scores[task.name]


@pytest.mark.parametrize(("metric", "by_token"), [("bits_per_byte", False), ("perplexity", True)])
def test_a_text_is_worth_one_over_its_perplexity(metric: str, by_token: bool) -> None:
    samples = tuple(Sample(str(place), line, "text") for place, line in enumerate(LINES))
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    network = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    wanted = []
    for line in LINES:
        tokens = tokenizer(line, add_special_tokens=False, return_tensors="pt").input_ids[0]
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        with torch.no_grad():
            logits = network(torch.cat([torch.tensor([start]), tokens])[None]).logits[0, :-1].double()
        total = torch.log_softmax(logits, dim=-1)[range(len(tokens)), tokens].sum().item()
        wanted.append(math.exp(total / (len(tokens) if by_token else len(line.encode()))))
    assert measured(Task("t", samples, (metric,))) == pytest.approx(wanted, rel=1e-4)


def test_the_probability_of_the_right_choice_is_the_softmax_of_all(tmp_path: Path) -> None:
    choices = ("red", "blue", "k d w")
    samples = tuple(Sample(str(place), line, "multiple_choice", choices, place) for place, line in enumerate(LINES))
    task = Task("t", samples, ("probability", "accuracy"))
    report = evaluate(BASE, [task], out=tmp_path, device="cpu")
    lines = [json.loads(line) for line in (tmp_path / "samples" / "t.jsonl").read_text().splitlines()]
    wanted = []
    for line in sorted(lines, key=lambda line: int(line["id"])):
        weights = [math.exp(score) for score in line["scores"]]
        wanted.append(weights[int(line["id"])] / sum(weights))
    assert [item.score for item in report.tasks[0].items] == pytest.approx(wanted)
    assert measured(task) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("sample", "metric", "message"),
    [
        (Sample("0", "a b", "text"), "word_perplexity", "no place for the metric 'word_perplexity'"),
        (Sample("0", "a", "similarity", second="b", target=1), "spearman", "no place for the metric 'spearman'"),
        (Sample("0", "a", "generation"), "exact_match", "item '0' has no target"),
    ],
)
def test_what_has_no_score_is_refused(sample: Sample, metric: str, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        Resident([BASE], [Task("t", (sample,), (metric,))], device="cpu")


def test_a_text_file_is_a_task_of_a_search(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n".join(LINES))
    (score,) = measured(load_task(tmp_path / "text.txt"))
    assert 0 < score < 1
