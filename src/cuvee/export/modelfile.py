"""A Modelfile, by which Ollama makes a model of a GGUF file: https://docs.ollama.com/modelfile."""

import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

from cuvee.export.chat_format import chat_format
from cuvee.export.gguf_tokenizer import TokenizerFiles, end_tokens

SAMPLING = {
    "temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}  # fmt: skip
"""transformers' words in generation_config.json, and Ollama's."""


def modelfile(file: Path, files: TokenizerFiles | None, config: Mapping[str, Any]) -> Generator[str, None, str]:
    """Return the text: the weights' file, the chat template in Go's words, ends, and how to sample; yields notes."""
    lines = [f"FROM ./{file.name}"]
    if files is None:
        return lines[0] + "\n"
    template = yield from _template(files)
    if template is not None:
        lines.append(f'TEMPLATE """{template}"""')
    texts = {number: token for token, number in files.tokenizer.ids.items()}
    lines += [f"PARAMETER stop {json.dumps(texts[i], ensure_ascii=False)}" for i in end_tokens(files, config)]
    lines += _sampling(files.generation)
    return "\n".join(lines) + "\n"


def _template(files: TokenizerFiles) -> Generator[str, None, str | None]:
    if files.template is None:
        return None
    special = {}
    for word in ("bos", "eos", "unk", "pad"):
        text = files.special_text(word)
        if text is not None:
            special[f"{word}_token"] = text
    around = chat_format(files.template, special, leave_out=files.text_before or "")
    if around is None:
        yield "the chat template says more than Ollama's can: the Modelfile has none, and Ollama guesses"
        return None
    return around.go_template()


def _sampling(generation: Mapping[str, Any]) -> list[str]:
    if generation.get("do_sample") is False:
        return ["PARAMETER temperature 0"]
    parameters = []
    for ours, theirs in SAMPLING.items():
        if _is_number(generation, ours):
            parameters.append(f"PARAMETER {theirs} {generation[ours]}")
    return parameters


def _is_number(generation: Mapping[str, Any], key: str) -> bool:
    value = generation.get(key)
    return isinstance(value, int | float) and not isinstance(value, bool)
