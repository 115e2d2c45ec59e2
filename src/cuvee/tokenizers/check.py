"""Checks a joined tokenizer: texts that the base brings back unchanged, it must bring back unchanged too."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from cuvee.errors import CheckpointError, MissingExtra
from cuvee.tokenizers.read import Tokenizer
from cuvee.tokenizers.union import Union

TEXTS = (
    "hello world", "Hello, World!", "The quick brown fox jumps over the lazy dog.", "  two  spaces ", "a\nb\n\nc\td",
    "It's 3.14159, isn't it?", "1234567890", "x = [i**2 for i in range(10)]", "def f(a, b=None):\n    return a or b",
    "<html><body class=\"x\">&amp;</body></html>", "https://example.org/path?q=1&r=%20", "user@example.org",
    "UPPER lower MiXeD camelCase snake_case kebab-case", "naïve café résumé Ærøskøbing", "Grüße aus Zürich, Straße",
    "El niño comió piñas.", "Привет, мир!", "Καλημέρα κόσμε", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया",
    "你好，世界！", "สวัสดีชาวโลก", "こんにちは世界", "안녕하세요 세계", "😀🎉 emoji",
    "👩‍👩‍👧 family", "∑ᵢ xᵢ² ≤ ∞", "“quotes” – dashes — … ",
    "a" * 50, "ab" * 20, "!?!?!?", "((([[[{{{}}}]]])))", "-1 + 2 = 1", "$5.00 €7 £9", "C++ C# F#", "line\r\nbreak",
)  # fmt: skip
"""Texts of many kinds."""

SAMPLES = 160
"""Texts put together from the vocabularies' own tokens."""


def check_union(union: Union, tokenizers: Sequence[Tokenizer]) -> int:
    """Encode and decode texts with the base's tokenizer and the joined tokenizer. Returns how many were tried.

    Raises CheckpointError if a text comes back changed that the base brings back, or if an id is not as planned.
    """
    ours, base = built(union.content), built(tokenizers[0].content or {})
    for token, number in union.ids.items():
        if ours.token_to_id(token) != number:
            message = f"the joined tokenizer has '{token}' as {ours.token_to_id(token)}, not as {number}"
            raise CheckpointError(message, where=tokenizers[0].where)
    texts = [*TEXTS, *_samples(tokenizers)]
    for text in texts:
        before = base.decode(base.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
        after = ours.decode(ours.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
        if before == text and after != text:
            message = f"the joined tokenizer reads {text!r} back as {after!r}"
            hint = "use `tokenizer: base`: the vocabularies do not fit together"
            raise CheckpointError(message, where=tokenizers[0].where, hint=hint)
    return len(texts)


def built(content: Mapping[str, Any]) -> Any:
    """Return the library's tokenizer of a tokenizer.json. Raises CheckpointError, or MissingExtra."""
    try:
        from tokenizers import Tokenizer as Library
    except ImportError as error:
        raise MissingExtra("eval", missing="tokenizers") from error
    try:
        return Library.from_str(json.dumps(content))
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"the library `tokenizers` refuses it: {error}", where="tokenizer.json") from error


def _samples(tokenizers: Sequence[Tokenizer]) -> list[str]:
    """Make texts of three tokens each, spread over the vocabularies."""
    texts = []
    share = math.ceil(SAMPLES / len(tokenizers))
    for tokenizer in tokenizers:
        plain = [token for token in tokenizer.tokens if token not in tokenizer.added]
        step = max(1, len(plain) // (3 * share))
        words = list(map(_readable, plain[::step]))
        starts = range(0, len(words), 3)[:share]
        texts += ["".join(words[start : start + 3]) for start in starts]
    return texts


def _readable(token: str) -> str:
    return token.replace("Ġ", " ").replace("▁", " ").removeprefix("##")
