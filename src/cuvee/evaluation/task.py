"""Questions for models: a task is a list of samples, a prompt and the metrics that judge the answers."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from blake3 import blake3

from cuvee.evaluation.prompt import Prompt

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
