"""The model that a run asks: in memory or behind a server, told apart once and then used alike."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cuvee.arguments import as_path
from cuvee.errors import RecipeError
from cuvee.evaluation.answers import answer
from cuvee.evaluation.batches import BatchSize
from cuvee.evaluation.choices import Scoring
from cuvee.evaluation.harness import Harnessed, run_lm_eval
from cuvee.evaluation.kinds import kind_of, open_judge
from cuvee.evaluation.kit import kit_style
from cuvee.evaluation.model import Device, Dtype, LanguageModel, fitting_threads, load_model
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.reading import Reading
from cuvee.evaluation.samples import Answer
from cuvee.evaluation.served import Served
from cuvee.evaluation.task import Task


class Answerer(Protocol):
    """A model that answers the items of tasks."""

    @property
    def model(self) -> LanguageModel | Served:
        """The model itself: its name, its digests and its context length."""
        ...

    @property
    def cuts(self) -> str:
        """The side on which items that are too long are cut."""
        ...

    @property
    def own_prompt(self) -> Mapping[str, Any]:
        """The keys of a prompt that the recipe of the model states."""
        ...

    @property
    def reading(self) -> Reading:
        """The counts of items and tokens that the model has read so far."""
        ...

    def deciding(self, scoring: Scoring) -> dict[str, str]:
        """Return the settings on which the answers depend."""
        ...

    def at_work(self) -> AbstractContextManager[object]:
        """Hold the threads that suit the model."""
        ...

    def answers(
        self,
        task: Task,
        missing: Collection[str],
        batches: Sequence[Sequence[str]],
        *,
        scoring: Scoring,
        batch_size: BatchSize,
    ) -> Iterator[list[Answer]]:
        """Answer the samples whose ids are in `missing`; `batches` are computed again as they were."""
        ...

    def harness(
        self, names: Sequence[str], prompt: Prompt, *, limit: int | None, batch_size: BatchSize, out: Path | None
    ) -> Harnessed:
        """Let lm-eval run tasks of its own on the model."""
        ...


@dataclass(frozen=True)
class InMemory:
    """A model that is loaded here."""

    model: LanguageModel
    cuts: str = "left"

    @property
    def own_prompt(self) -> Mapping[str, Any]:
        return self.model.own_prompt

    @property
    def reading(self) -> Reading:
        return self.model.abilities.meter.reading

    def deciding(self, scoring: Scoring) -> dict[str, str]:
        settings = {"scoring": scoring, "dtype": self.model.dtype, "device": self.model.device.type}
        if scoring == "kit":
            settings["kit_style"] = kit_style(self.model)
        return settings

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
        return answer(
            self.model,
            task.samples,
            task.prompt,
            scoring=scoring,
            batch_size=batch_size,
            missing=missing,
            batches=batches,
        )

    def harness(
        self, names: Sequence[str], prompt: Prompt, *, limit: int | None, batch_size: BatchSize, out: Path | None
    ) -> Harnessed:
        return run_lm_eval(self.model, names, limit=limit, batch_size=batch_size, prompt=prompt, out=out)


@dataclass(frozen=True)
class OnServer:
    """A model behind a server. It has no prompt of its own, and the server alone knows how it reads."""

    model: Served
    cuts: str = "left"

    @property
    def own_prompt(self) -> Mapping[str, Any]:
        return {}

    @property
    def reading(self) -> Reading:
        return Reading()

    def deciding(self, scoring: Scoring) -> dict[str, str]:
        return {"scoring": scoring, **self.model.settings()}

    def at_work(self) -> AbstractContextManager[object]:
        return nullcontext()

    def answers(
        self,
        task: Task,
        missing: Collection[str],
        batches: Sequence[Sequence[str]],
        *,
        scoring: Scoring,
        batch_size: BatchSize,
    ) -> Iterator[list[Answer]]:
        return self.model.answers(task.samples, task.prompt, scoring=scoring, batch_size=batch_size, missing=missing)

    def harness(
        self, names: Sequence[str], prompt: Prompt, *, limit: int | None, batch_size: BatchSize, out: Path | None
    ) -> Harnessed:
        raise RecipeError("lm-eval's own tasks need a model in memory", hint="give its folder")


def answerer_of(model: "str | Path | LanguageModel | Served", device: Device, dtype: Dtype) -> Answerer:
    """Return the answerer of a model, which is loaded if it is given by its folder. Raises EvaluationError."""
    if isinstance(model, Served):
        return OnServer(model)
    if isinstance(model, LanguageModel):
        return InMemory(model)
    folder = as_path(model, "model")
    kind = kind_of(folder)
    if kind == "writer":
        return InMemory(load_model(folder, device=device, dtype=dtype))
    return open_judge(folder, kind, device, dtype)
