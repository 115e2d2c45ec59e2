"""Runs recipes through mergekit, all in one process, and through Cuvée, in this one."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cuvee
from cuvee.checkpoint import Checkpoint, open_checkpoint
from cuvee.engine.arrays import merge_by_definition
from cuvee.plan import MergeStep, Plan
from cuvee.plan.plan import Input
from cuvee.testing import write_model
from parity.recipes import Case

DRIVER = Path(__file__).with_name("drive_mergekit.py")
SECONDS = 3600

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class OneTensor:
    """One tensor of several models for mergekit to merge, `draws` times with other random numbers."""

    id: str
    method: str
    tensors: Sequence[np.ndarray]
    parameters: Mapping[str, Any]
    base: int | None = 0
    draws: int = 1


@dataclass(frozen=True)
class OneRecipe:
    """A recipe for mergekit as it is."""

    id: str
    text: str


@dataclass(frozen=True)
class Answers:
    """What mergekit made of a batch: its folders, and for jobs that failed its messages."""

    folder: Path
    errors: Mapping[str, str]

    def merged(self, case: Case, *, reference: bool) -> Tensors:
        """Return mergekit's tensors: as it is, or where it was made to sort equal magnitudes by position."""
        return self.model(_id(case, reference=reference))

    def model(self, job: str) -> Tensors:
        """Return the tensors that a recipe gave."""
        assert job not in self.errors, f"mergekit fails at {job}: {self.errors[job]}"
        return read(self.folder / job)

    def tensor(self, job: str) -> np.ndarray:
        """Return what became of one tensor, [draws, *shape]."""
        assert job not in self.errors, f"mergekit fails at {job}: {self.errors[job]}"
        return read(self.folder / f"{job}.safetensors")["merged"]


def ask_mergekit(
    python: Path, folder: Path, cases: Sequence[Case], others: Sequence[OneTensor | OneRecipe] = ()
) -> Answers:
    """Let mergekit do a batch in one process; each recipe as it is, and for the result that Cuvée has to match."""
    folder.mkdir(parents=True)
    jobs = [_case_job(case, folder, reference=reference) for case in cases for reference in (False, True)]
    jobs += [_tensor_job(o, folder) if isinstance(o, OneTensor) else _recipe_job(o.id, o.text, folder) for o in others]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    command = [str(python), str(DRIVER), str(folder / "jobs.json"), str(folder / "answers.json")]
    subprocess.run(command, check=True, timeout=SECONDS)
    return answers_in(folder)


def answers_in(folder: Path) -> Answers:
    """Read what mergekit answered before."""
    answers = json.loads((folder / "answers.json").read_text())
    return Answers(folder, {answer["id"]: answer["error"] for answer in answers if answer["error"]})


def _id(case: Case, *, reference: bool) -> str:
    return f"{case.id}-{'reference' if reference else 'plain'}"


def _case_job(case: Case, folder: Path, *, reference: bool) -> dict[str, Any]:
    text = case.reference if reference else case.text
    return _recipe_job(_id(case, reference=reference), text, folder, stable=reference)


def _recipe_job(name: str, text: str, folder: Path, *, stable: bool = False) -> dict[str, Any]:
    return {"id": name, "kind": "recipe", "text": text, "out": str(folder / name), "stable": stable}


def _tensor_job(given: OneTensor, folder: Path) -> dict[str, Any]:
    inputs = write_model(folder / f"{given.id}-inputs", {str(i): array for i, array in enumerate(given.tensors)})
    return {
        "id": given.id, "kind": "tensors", "method": given.method, "file": str(inputs / "model.safetensors"),
        "base": given.base, "parameters": dict(given.parameters), "draws": given.draws,
        "out": str(folder / f"{given.id}.safetensors"), "stable": False,
    }  # fmt: skip


def read(place: Path) -> Tensors:
    """Return all tensors of a model folder or file."""
    with open_checkpoint(place) as opened:
        return {name: opened.read(name) for name in opened.tensors}


def plan_of(case: Case, compute_dtype: str) -> Plan:
    return cuvee.make_plan(cuvee.recipe_from_text(case.ours(compute_dtype)))


def merge_here(plan: Plan, out: Path) -> Tensors:
    """Return Cuvée's tensors, by the way that files take."""
    return read(cuvee.run_plan(plan, out).folder)


def by_definition(plan: Plan, step: MergeStep) -> np.ndarray:
    """Return a step's tensor by the method's definition in float64."""
    stack = np.stack([_wide(plan, given) for given in step.inputs])
    base = _wide(plan, step.base) if step.base else None
    settings = {**step.settings, **({"lambda": step.scale} if "lambda" in plan.method.settings else {})}
    semantics = plan.recipe.semantics
    return np.asarray(merge_by_definition(plan.method.key, stack, base=base, semantics=semantics, **settings))


def _wide(plan: Plan, given: Input) -> np.ndarray:
    source = plan.sources[given.model]
    assert isinstance(source, Checkpoint), "the models are folders"
    return source.read(given.tensor).astype(np.float64)
