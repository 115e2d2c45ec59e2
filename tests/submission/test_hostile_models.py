"""Models that were made to break whoever loads and asks them: a score or a reason comes out, never a fault of ours.

The merge is scripted and leaves such a model; our own code then answers with it, in this process.
"""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra 'eval'")

from safetensors.numpy import load_file, save_file

from cuvee.submission import inside
from cuvee.submission.competition import Competition
from cuvee.submission.judge import judge
from cuvee.submission.sandbox import Ended, Limits
from cuvee.submission.sandbox.protocol import Hear, Job
from cuvee.submission.verdict import Verdict
from submission.conftest import AVERAGE, packed
from submission.scripted import Scripted, Spoil


@dataclass
class Answering(Scripted):
    """A sandbox of a script whose models are really asked, by the code that a job would run."""

    def run(self, job: Job, limits: Limits, hear: Hear) -> Ended:
        if job.writable.name == "merge":
            return super().run(job, limits, hear)
        said = io.StringIO()
        with redirect_stdout(said):
            try:
                code = inside.main(["evaluate", job.command[-1]])
            except Exception:  # noqa: BLE001  # a process would end with it
                code = 1
        for line in said.getvalue().encode().splitlines():
            hear(line)
        return Ended("crash" if code else "finished", code, 1.0, 1 << 20, 1 << 20, "")


def says(file: str, **settings: Any) -> Spoil:
    """Make what changes a config of a model."""

    def spoil(out: Path) -> None:
        place = out / "model" / file
        content = json.loads(place.read_text()) if place.exists() else {}
        place.write_text(json.dumps({**content, **settings}))

    return spoil


def all_weights(change: Callable[[Any], Any]) -> Spoil:
    """Make what changes every weight of a model."""

    def spoil(out: Path) -> None:
        (file,) = (out / "model").glob("*.safetensors")
        weights = {name: change(weight.astype(np.float32)) for name, weight in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})

    return spoil


OVERFLOWS: dict[str, Spoil] = {
    "weights of 1e30": all_weights(lambda weight: np.full_like(weight, 1e30)),
    "weights of 1e15": all_weights(lambda weight: np.full_like(weight, 1e15)),
    "weights of zero": all_weights(np.zeros_like),
}
ODD_CONFIGS: dict[str, Spoil] = {
    "a list for a length": says("tokenizer_config.json", model_max_length=[1]),
    "a number for a class": says("tokenizer_config.json", tokenizer_class=5),
    "a text for a token": says("generation_config.json", eos_token_id="x", max_length={}),
}


@pytest.fixture
def asked(competition: Competition, tmp_path: Path) -> Callable[[Spoil], Verdict]:
    """Judge a submission that leaves a spoilt model."""

    def run(spoil: Spoil) -> Verdict:
        sandbox = Answering(competition.folder / "models/sort", spoil_model=spoil)
        verdict = judge(packed(tmp_path, competition, AVERAGE), competition, tmp_path / "work", sandbox=sandbox)
        assert verdict.costs_quota
        assert str(tmp_path) not in json.dumps(verdict.to_json()), "nobody is told of the judge's folders"
        return verdict

    return run


@pytest.mark.parametrize("case", OVERFLOWS)
def test_weights_beyond_all_measure_get_a_score_or_are_refused_by_name(
    case: str, asked: Callable[[Spoil], Verdict]
) -> None:
    verdict = asked(OVERFLOWS[case])
    if verdict.outcome == "accepted":
        assert verdict.public is not None
        assert 0 <= verdict.public.macro.value <= 0.5, "no more than chance"
    else:
        assert (verdict.outcome, verdict.reason) == ("rejected", "recipe")
        assert "the model's output for item" in verdict.message
        assert "is not a number" in verdict.message


@pytest.mark.parametrize("case", ODD_CONFIGS)
def test_settings_of_a_wrong_type_are_no_fault_of_ours(case: str, asked: Callable[[Spoil], Verdict]) -> None:
    verdict = asked(ODD_CONFIGS[case])
    assert (verdict.outcome, verdict.reason) in [("rejected", "recipe"), ("quarantined", "crash")], verdict.message


def test_a_config_of_millions_of_layers_is_refused_by_name(asked: Callable[[Spoil], Verdict]) -> None:
    verdict = asked(says("config.json", num_hidden_layers=200_000_000))
    assert (verdict.outcome, verdict.reason) == ("rejected", "recipe")
    assert verdict.message.startswith(
        "evaluating failed: merge/model/config.json: the config says that there are 200,000,000 layers"
    )
