"""Models that judge texts and write none: the shared part of all their kinds when they answer the items of a task."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from cuvee.errors import EvaluationError, RecipeError
from cuvee.evaluation.answers import named, work_of
from cuvee.evaluation.batches import BatchSize, Unit
from cuvee.evaluation.choices import Scoring
from cuvee.evaluation.harness import Harnessed
from cuvee.evaluation.library import alone_from
from cuvee.evaluation.memory import halving
from cuvee.evaluation.model import LanguageModel, fitting_threads
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.reading import Reading
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.task import Sample, Task

TOKENS_AT_ONCE = 8192
Tokens = list[int]


class Judge(Protocol):
    """A kind of model that judges texts, with the model that it was loaded as."""

    @property
    def kind(self) -> str:
        """Its name in messages."""
        ...

    @property
    def model(self) -> LanguageModel:
        """The network with its tokenizer and digests."""
        ...

    def check(self, samples: Sequence[Sample], prompt: Prompt, scoring: Scoring) -> None:
        """Raise for samples, prompts and scorings that this kind cannot answer."""
        ...

    def cost(self, sample: Sample, prompt: Prompt) -> int:
        """Return how many tokens an item takes, about."""
        ...

    def answers(self, samples: Sequence[Sample], prompt: Prompt, scoring: Scoring) -> list[Answer]:
        """Answer a few samples."""
        ...


@dataclass(frozen=True)
class Judging:
    """An answerer: a judge asked batch by batch."""

    judge: Judge
    cuts: str = "right"
    reading: Reading = field(default_factory=Reading)

    @property
    def model(self) -> LanguageModel:
        return self.judge.model

    @property
    def own_prompt(self) -> Mapping[str, Any]:
        return self.model.own_prompt

    def deciding(self, scoring: Scoring) -> dict[str, str]:
        model = self.model
        return {"kind": self.judge.kind, "scoring": scoring, "dtype": model.dtype, "device": model.device.type}

    def at_work(self) -> AbstractContextManager[object]:
        return fitting_threads(self.model)

    def answers(
        self,
        task: Task,
        missing: Collection[str],
        batches: Sequence[Sequence[str]],
        *,
        scoring: Scoring,
        batch_size: BatchSize,
    ) -> Iterator[list[Answer]]:
        samples, prompt = task.samples, task.prompt
        work = work_of(samples, missing, batches)
        self.judge.check([samples[place] for place in work.places], prompt, scoring)
        costs = {place: self.judge.cost(samples[place], prompt) for place in work.places}
        units = [Unit((place,), (costs[place],), costs[place]) for place in work.rest]
        asked = work.batches(units, batch_size=batch_size, budget=TOKENS_AT_ONCE)

        def compute(batch: Sequence[int]) -> list[Answer]:
            with torch.inference_mode():
                return self.judge.answers([samples[place] for place in batch], prompt, scoring)

        for _, answers in halving(asked, costs, compute):
            yield named(answers)

    def harness(
        self, names: Sequence[str], prompt: Prompt, *, limit: int | None, batch_size: BatchSize, out: Path | None
    ) -> Harnessed:
        raise RecipeError(f"lm-eval's tasks need a model that writes text; this is {_a(self.judge.kind)}")


def refuse(judge: Judge, samples: Sequence[Sample], kinds: Sequence[str]) -> None:
    """Raise unless all samples are of these kinds."""
    other = next((sample for sample in samples if sample.eval_type not in kinds), None)
    if other is not None:
        message = f"{_a(judge.kind)} cannot answer the item '{other.id}', which is {other.eval_type}"
        raise EvaluationError(message, where=judge.model.name, hint=f"it answers {' and '.join(kinds)}")


def refuse_asking(judge: Judge, prompt: Prompt, scoring: Scoring, scorings: Sequence[str]) -> None:
    """Raise for prompts that want text written, and for scorings that this kind of model does not have."""
    if prompt.answer_by != "likelihood":
        raise EvaluationError(f"{_a(judge.kind)} writes no text", hint="set answer_by: likelihood")
    if scoring not in scorings:
        raise RecipeError(f"{_a(judge.kind)} has no scoring '{scoring}'", hint=f"it has {', '.join(scorings)}")


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


TRIED = (12, 5)
"""Tokens of the two rows by which is tried whether padding is heeded."""


def pads(model: LanguageModel, outputs: Callable[[Any], torch.Tensor], *, most: int) -> bool:
    """Whether a network of a judge answers for a padded row as for that row alone: FNet reads padding like text.

    `outputs` takes from a network's result what is asked of each row, [rows, ...]. What differs by more than rounding
    in float32, or by a hundredth in 16 bits, is not the same.
    """
    tokenizer = model.tokenizer
    if tokenizer.pad_token_id is None:
        return False
    words = [token for token in range(min(len(tokenizer), 200)) if token not in tokenizer.all_special_ids] or [0]
    rows = []
    for count in TRIED:
        text = tokenizer.decode([words[(7 * place) % len(words)] for place in range(count)])
        rows.append(dict(tokenizer(text, truncation=True, max_length=most, verbose=False)))
    with torch.inference_mode():
        together = outputs(seen(model, padded(model, rows)))[1].float()
        alone = outputs(seen(model, padded(model, rows[1:])))[0].float()
    tolerance = 1e-4 if model.network.dtype == torch.float32 else 1e-2
    together = together[: len(alone)]
    return bool((together - alone).abs().max() <= tolerance * alone.abs().max().clamp(min=1e-6))


def padded(model: LanguageModel, rows: Sequence[Mapping[str, Tokens]]) -> dict[str, torch.Tensor]:
    """Return tokenised rows as tensors of one width, padded on the right as the tokenizer pads."""
    inputs = model.tokenizer.pad(list(rows), padding=True, padding_side="right", return_tensors="pt")
    return {name: tensor.to(model.device) for name, tensor in inputs.items()}


def seen(model: LanguageModel, inputs: Mapping[str, torch.Tensor]) -> Any:
    """Return what a network makes of rows, whatever it was shown before.

    Rotary positions that depend on the longest row stay as it has left them, until a short one comes.
    """
    limit = alone_from(model.network)
    if limit is not None and inputs["input_ids"].shape[1] >= limit:
        model.network(**{name: values[:, :1] for name, values in inputs.items()})
    return model.network(**inputs)
