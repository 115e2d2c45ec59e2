"""The start that all items of a task share, few-shot examples above all, read once for all batches."""

from collections.abc import Sequence

from cuvee.evaluation.forward import Padded, Seen
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.question import Tokens
from cuvee.evaluation.tokenise import opening

FEWEST = 16  # for fewer tokens the copies of their keys and values cost more than they save


class SharedStart:
    """The tokens with which all rows begin, if they are worth it; the model reads them when they are first needed."""

    def __init__(self, model: LanguageModel, prompt: Prompt) -> None:
        self._model = model
        tokens = [] if model.encoder_decoder else opening(model, prompt)
        self._tokens: Tokens = tokens if len(tokens) >= FEWEST else []
        self._seen: Padded | None = None

    @property
    def width(self) -> int:
        """How many tokens all rows begin with; 0 where they are not worth it."""
        return len(self._tokens)

    def before(self, rows: Sequence[Tokens], *, follow: int) -> Padded | None:
        """Return the start as it was read, if every row has it and goes on: only their rest is to be read.

        Up to `follow` tokens are read behind the rows later.
        """
        if not self._begins(rows) or not self._model.abilities.shares_start(max(map(len, rows)) + follow):
            return None
        return self._read_once()

    def before_branches(self, rows: Sequence[Tokens], *, follow: int) -> Padded | None:
        """Return the same for rows behind which up to `follow` tokens branch."""
        if not self._begins(rows) or not self._model.abilities.branches_behind_start(max(map(len, rows)) + follow):
            return None
        return self._read_once()

    def _begins(self, rows: Sequence[Tokens]) -> bool:
        """Whether there are several rows, and all go on after the start."""
        count = self.width
        if not count or len(rows) == 1:
            return False
        return all(len(row) > count and row[:count] == self._tokens for row in rows)

    def _read_once(self) -> Padded:
        if self._seen is None:
            self._seen = self._model.abilities.read_padded([self._tokens])
        return self._seen

    def read(self, rows: Sequence[Tokens], *, follow: int) -> Seen:
        """Show rows to the model, their start apart where that is possible; up to `follow` tokens are read later."""
        before = self.before(rows, follow=follow)
        if before is None:
            return self._model.abilities.read(rows, follow=follow)
        return self._model.abilities.read_padded([row[before.width :] for row in rows], before)
