"""What all items of a task begin with, few-shot examples above all, read once for all batches."""

from collections.abc import Sequence

from cuvee.evaluate.forward import Seen, can_share, read
from cuvee.evaluate.model import LanguageModel
from cuvee.evaluate.prompt import Prompt
from cuvee.evaluate.question import Tokens, opening

FEWEST = 16  # for fewer tokens the copies of their keys and values cost more than they save


class SharedStart:
    """The tokens with which all rows begin, if they are worth it; the model reads them when they are first needed."""

    def __init__(self, model: LanguageModel, prompt: Prompt) -> None:
        self._model = model
        found = opening(model, prompt) if can_share(model) else []
        self._tokens: Tokens = found if len(found) >= FEWEST else []
        self._seen: Seen | None = None

    def before(self, rows: Sequence[Tokens]) -> Seen | None:
        """Return what was seen of the start, if every row has it and goes on: the rest of them is to be read."""
        count = len(self._tokens)
        if not count or len(rows) == 1 or any(len(row) <= count or row[:count] != self._tokens for row in rows):
            return None
        if self._seen is None:
            self._seen = read(self._model, [self._tokens])
        return self._seen

    def read(self, rows: Sequence[Tokens]) -> Seen:
        """Show rows to the model, their start apart where that is possible."""
        before = self.before(rows)
        if before is None:
            return read(self._model, rows)
        return read(self._model, [row[before.width :] for row in rows], before)
