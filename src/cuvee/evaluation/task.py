"""Questions for models: a task is a list of samples, a prompt and the metrics that judge the answers.

A task comes from a `.csv`, a `.jsonl`, a `task.yaml`, or by the name of a bundled task. A bare data file is scored by
`accuracy` if all its rows are multiple choice, by `spearman` if they are similarities, by `bits_per_byte` if they are
texts, else by `exact_match`. A `.txt` file is a task, too: its pieces are texts.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from blake3 import blake3

from cuvee import demo
from cuvee.arguments import at_home
from cuvee.errors import EvaluationError, closest
from cuvee.evaluation.prompt import Prompt
from cuvee.extras import install_command
from cuvee.nearest import nearest

EvalType = Literal["multiple_choice", "generation", "similarity", "text"]
PLAIN = Prompt()


@dataclass(frozen=True)
class Sample:
    """One item. `target` is an index into `choices` for multiple choice, text for generation, None if not known.

    A generation item may carry choices; they are kept and not used. `second` is a text beside the input: of a pair that
    a classifier judges, or that is compared in a similarity, whose target is a number. A text has no target.
    """

    id: str
    input: str
    eval_type: EvalType
    choices: tuple[str, ...] = ()
    target: int | str | None = None
    second: str = ""

    @property
    def pair(self) -> tuple[str, ...]:
        """The second text, if any."""
        return (self.second,) if self.second else ()

    def text_of(self, answer: int | str) -> str:
        """Return an answer as text: the choice that an index stands for, or the text itself."""
        return self.choices[answer] if isinstance(answer, int) else answer


@dataclass(frozen=True)
class Task:
    """Samples, how to ask them and how to judge the answers. The first metric is the main metric."""

    name: str
    samples: tuple[Sample, ...]
    metrics: tuple[str, ...]
    weight: float = 1.0
    prompt: Prompt = PLAIN
    license: str | None = None

    @cached_property
    def digest(self) -> str:
        """BLAKE3 of questions and judgement: samples, prompt and metrics. Name, weight and paths are out."""
        content = {
            "samples": [[s.id, s.input, s.eval_type, s.choices, s.target, *s.pair] for s in self.samples],
            "prompt": self.prompt.to_json(),
            "metrics": self.metrics,
        }
        return blake3(json.dumps(content, separators=(",", ":"), sort_keys=True).encode()).hexdigest()


def load_task(where: str | Path) -> Task:
    """Read a task from a `.csv`, `.jsonl` or `.yaml` file, or by the name of a bundled task.

    All problems of a file are raised together as an EvaluationError, each with its file and line.
    """
    from cuvee.evaluation.task_yaml import read_task_yaml

    path = at_home(where)
    if path.suffix in (".yaml", ".yml"):
        return read_task_yaml(_existing(path))
    if path.suffix in (".csv", ".jsonl", ".txt"):
        return _bare_task(_existing(path))
    return read_task_yaml(_bundled(str(where)))


def _existing(path: Path) -> Path:
    if not path.is_file():
        hint = nearest(str(path), suffixes=(".csv", ".jsonl", ".txt", ".yaml", ".yml"))
        raise EvaluationError("no such task file", where=str(path), hint=hint)
    return path


def _bundled(name: str) -> Path:
    names = demo.task_names()
    if name in names:
        return demo.task_file(name)
    guess = closest(name, names)
    meant = f"did you mean '{guess}'? " if guess else ""
    public = ", ".join(task for task in names if not task.endswith("-private"))
    others = f"a .csv, .jsonl, .txt or .yaml file is a task, too, and lm-eval:NAME is one of lm-eval's{_to_install()}"
    raise EvaluationError(f"there is no bundled task '{name}'", hint=f"{meant}there are {public}; {others}")


def _to_install() -> str:
    return "" if find_spec("lm_eval") else f", which `{install_command('lm-eval')}` installs"


def _bare_task(path: Path) -> Task:
    from cuvee.evaluation.metrics import check_metrics, default_metrics
    from cuvee.evaluation.rows import read_samples

    samples = read_samples(path)
    metrics = default_metrics(samples)
    check_metrics(metrics, samples, where=str(path))
    return Task(name=path.stem, samples=samples, metrics=metrics)
