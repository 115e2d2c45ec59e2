"""Advice for merging experts, from one pass over their weights and the lessons of merges of measured families."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cuvee.arguments import as_reference, as_references, checks_options
from cuvee.comparison.models import opened_models
from cuvee.errors import RecipeError
from cuvee.hub import Hub
from cuvee.progress import Progress, Silent
from cuvee.suggest.advice import Advice, advice_of, unanswered
from cuvee.suggest.rules import read_rules
from cuvee.suggest.survey import Survey, survey

TOKENS = 4096
"""Of each text that are read: enough for a loss within a few hundredths of a nat."""


@dataclass(frozen=True)
class Suggestion:
    """The changes of experts, advice for merging them, and the reader's cautions before believing it.

    `unsaid` are the questions that nothing measured predicts.
    """

    survey: Survey
    advice: tuple[Advice, ...]
    unsaid: tuple[str, ...]
    texts: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {
            "base": self.survey.base,
            **asdict(self.survey.changes),
            "texts": list(self.texts),
            "matrices": self.survey.matrices,
            "left_out": list(map(asdict, self.survey.left_out)),
            "advice": list(map(asdict, self.advice)),
            "unsaid": list(self.unsaid),
            "notes": list(self.notes),
        }


@checks_options
def suggest(
    models: Sequence[Path | str],
    *,
    base: Path | str | None = None,
    texts: Sequence[Path | str] = (),
    threads: int = 1,
    tokens: int = TOKENS,
    device: Any = "auto",
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Suggestion:
    """Say how to merge experts. Without `base`, the first model is the base.

    Every model is read once, in little memory. With a text of each expert, in their order, the base and every expert
    read up to `tokens` tokens of each text, on `device`. Raises CheckpointError for models that cannot be read or are
    from a common base, RecipeError for fewer than two experts or another number of texts.
    """
    named = as_references(models, "models")
    if base is not None:
        named = [as_reference(base, "base"), *named]
    if len(named) < 3:
        hint = "name another expert; the first model is the base unless --base names it"
        raise RecipeError(f"expected a base and at least two experts, found {len(named)} models", hint=hint)
    own_texts = [str(text) for text in texts]
    if own_texts and len(own_texts) != len(named) - 1:
        hint = "give one text of each expert, in their order"
        raise RecipeError(f"there are {len(named) - 1} experts and {len(own_texts)} texts", hint=hint)
    hub = hub or Hub()
    progress = progress or Silent()
    seen = survey(opened_models(named, hub, progress), named, threads=threads, progress=progress)
    if own_texts:
        from cuvee.suggest.losses import losses_on

        losses = losses_on(named, own_texts, tokens=tokens, device=device, hub=hub, progress=progress)
        seen = replace(seen, changes=replace(seen.changes, losses=losses))
    advice = advice_of(seen.changes, read_rules())
    return Suggestion(seen, advice, unanswered(advice), tuple(own_texts), _notes(seen))


def _notes(seen: Survey) -> tuple[str, ...]:
    notes = []
    if seen.left_out:
        names = ", ".join(tensor.tensor for tensor in seen.left_out[:3])
        notes.append(f"{len(seen.left_out)} tensors outside the layers are not in all models alike: {names}")
    if not seen.matrices:
        notes.append("no matrix was large enough to look at its directions")
    return tuple(notes)
