"""A tokenizer that tokenises each text once: from candidate to candidate the weights change, and prompts do not."""

from collections.abc import Sequence
from typing import Any


class RememberingTokenizer:
    """Tokenises texts as the tokenizer within does, and remembers them; all else is left to that tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._rows: dict[str, dict[str, list[int]]] = {}

    def __call__(self, texts: Sequence[str], **options: Any) -> dict[str, list[list[int]]]:
        """Return the tokens of each text under "input_ids"."""
        rows = self._rows.setdefault(repr(sorted(options.items())), {})
        new = [text for text in dict.fromkeys(texts) if text not in rows]
        if new:
            tokenised = self._tokenizer(new, **options)["input_ids"]
            rows.update(zip(new, tokenised, strict=True))
        return {"input_ids": [list(rows[text]) for text in texts]}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)
