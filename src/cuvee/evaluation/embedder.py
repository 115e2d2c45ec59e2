"""Embedding models in SentenceTransformer folders: similarity of two texts, and which text lies nearest to another.

`modules.json` names the parts: a transformer, pooling, dense layers, normalisation; others are refused by name. As
`SentenceTransformer.encode_query` and `encode_document` do, an input of multiple choice gets the prompt `query` and its
choices get `document`, where the model has these; all else gets the default prompt.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cuvee.checkpoint.dtypes import NUMPY
from cuvee.errors import EvaluationError
from cuvee.evaluation.choices import Scoring
from cuvee.evaluation.library import alone_from
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.reads import TOKENS_AT_ONCE, padded, pads, refuse, refuse_asking, seen
from cuvee.evaluation.samples import Answer, ScoredChoice
from cuvee.evaluation.task import Sample
from cuvee.foreign import open_files

MODULES = "modules.json"
Vector = np.ndarray
Step = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Makes another embedding of tokens or of a text; also given is the mask of the tokens."""

_QUERY, _DOCUMENT = ("query",), ("document", "passage", "corpus")
_ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Identity": lambda x: x, "Tanh": torch.tanh, "ReLU": torch.relu, "Sigmoid": torch.sigmoid,
    "GELU": torch.nn.functional.gelu, "SiLU": torch.nn.functional.silu,
}  # fmt: skip
_OLD_MODES = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip


@dataclass(frozen=True)
class Embedder:
    """A network with the steps that follow its hidden states, and the prompts that go before texts."""

    model: LanguageModel
    steps: tuple[Step, ...]
    prompts: Mapping[str, str]
    default_prompt: str
    most_tokens: int
    lower: bool
    similarity: str
    kind: str = "embedding model"
    _vectors: dict[str, Vector] = field(default_factory=dict, compare=False, repr=False)

    def check(self, samples: Sequence[Sample], prompt: Prompt, scoring: Scoring) -> None:
        refuse(self, samples, ("multiple_choice", "similarity"))
        refuse_asking(self, prompt, scoring, ("sum",))

    def cost(self, sample: Sample, prompt: Prompt) -> int:
        return max(1, sum(len(text) for text in self._texts(sample, prompt)) // 4)

    def answers(self, samples: Sequence[Sample], prompt: Prompt, scoring: Scoring) -> list[Answer]:
        texts = [self._texts(sample, prompt) for sample in samples]
        self._embed(dict.fromkeys(chain.from_iterable(texts)))
        return [self._answer(sample, prompt, own) for sample, own in zip(samples, texts, strict=True)]

    def embed(self, texts: Sequence[str]) -> Vector:
        """Return the embedding of each text as it stands, [texts, dimensions] in float32."""
        with torch.inference_mode():
            self._embed(dict.fromkeys(texts))
        return np.stack([self._vectors[text] for text in texts])

    def _texts(self, sample: Sample, prompt: Prompt) -> list[str]:
        """Return the texts of an item with the model's prompts before them, the input first."""
        text = prompt.render(sample.input)
        if sample.eval_type == "similarity":
            return [self.default_prompt + text, self.default_prompt + sample.second]
        before, behind = self._prompt(_QUERY), self._prompt(_DOCUMENT)
        return [before + text, *(behind + choice for choice in sample.choices)]

    def _prompt(self, names: Sequence[str]) -> str:
        return next((self.prompts[name] for name in names if name in self.prompts), self.default_prompt)

    def _answer(self, sample: Sample, prompt: Prompt, texts: Sequence[str]) -> Answer:
        first, *others = (self._vectors[text].astype(np.float64) for text in texts)
        scores = tuple(self._likeness(first, other, sample.id) for other in others)
        whole = self.model.tokenizer(list(texts), verbose=False)["input_ids"]
        cuts = [max(0, len(row) - self.most_tokens) for row in whole]
        tokens, cut = sum(map(len, whole)) - sum(cuts), max(cuts)
        if sample.eval_type == "similarity":
            return Answer(sample.id, texts[0], f"{scores[0]:.6f}", tokens, cut, scores=scores)
        choices = tuple(ScoredChoice(choice, score, 1) for choice, score in zip(sample.choices, scores, strict=True))
        best = max(range(len(scores)), key=scores.__getitem__)
        return Answer(sample.id, texts[0], best, tokens, cut, choices=choices, scores=scores)

    def _likeness(self, first: Vector, second: Vector, name: str) -> float:
        product = float(first @ second)
        if self.similarity == "cosine":
            length = float(np.linalg.norm(first) * np.linalg.norm(second))
            product = product / length if length else 0.0
        if not np.isfinite(product):
            raise EvaluationError(f"the model's output for item '{name}' is not a number", where=self.model.name)
        return product

    def _rows(self, texts: Sequence[str]) -> list[dict[str, list[int]]]:
        written = [text.lower() for text in texts] if self.lower else list(texts)
        rows = self.model.tokenizer(written, truncation=True, max_length=self.most_tokens, verbose=False)
        return [{name: values[place] for name, values in rows.items()} for place in range(len(texts))]

    @cached_property
    def _pads(self) -> bool:
        return pads(self.model, lambda output: output.last_hidden_state, most=self.most_tokens)

    def _embed(self, texts: Mapping[str, None]) -> None:
        """Compute the embeddings that are not there yet, texts of like length together."""
        new = [text for text in texts if text not in self._vectors]
        rows = self._rows(new) if new else []
        lengths = [len(row["input_ids"]) for row in rows]
        alike = len(set(lengths)) > 1 and not self._pads
        limit = alone_from(self.model.network) or math.inf
        for batch in _batches(lengths, alike=alike, alone_from=limit):
            inputs = padded(self.model, [rows[place] for place in batch])
            mask = inputs["attention_mask"]
            states = seen(self.model, inputs).last_hidden_state.float()
            for step in self.steps:
                states = step(states, mask)
            for place, vector in zip(batch, states.cpu().numpy(), strict=True):
                self._vectors[new[place]] = vector


def _batches(lengths: Sequence[int], *, alike: bool, alone_from: float) -> Iterator[list[int]]:
    """Give the places of texts that are read together; where `alike`, only those of equal length are.

    Each of at least `alone_from` tokens is read alone.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        if batch:
            longest = lengths[batch[0]]
            is_full = (len(batch) + 1) * longest > TOKENS_AT_ONCE
            is_unlike = alike and lengths[place] != longest
            if is_full or is_unlike or longest >= alone_from:
                yield batch
                batch = []
        batch.append(place)
    if batch:
        yield batch


def transformer_folder(folder: Path) -> Path:
    """Return where the transformer of a SentenceTransformer lies. Raises EvaluationError where there is none."""
    first = _modules(folder)[0]
    if first["type"] != "Transformer":
        raise EvaluationError(f"its first module is {first['type']}, not a transformer", where=str(folder / MODULES))
    return folder / str(first["path"])


def make_embedder(folder: Path, model: LanguageModel) -> Embedder:
    """Put the parts of a SentenceTransformer folder together. Raises EvaluationError for parts that are not known."""
    steps: list[Step] = []
    for module in _modules(folder)[1:]:
        place = folder / str(module["path"])
        if module["type"] == "Pooling":
            steps.append(_pooling(place / "config.json"))
        elif module["type"] == "Dense":
            steps.append(_dense(place, model.device))
        elif module["type"] == "Normalize":
            steps.append(lambda x, mask: torch.nn.functional.normalize(x, p=2, dim=1))
        else:
            raise EvaluationError(f"the module {module['type']} is not known here", where=str(folder / MODULES))
    if not steps:
        raise EvaluationError("it has no pooling, so that texts have no embedding", where=str(folder / MODULES))
    settings = _json(transformer_folder(folder) / "sentence_bert_config.json")
    whole = _json(folder / "config_sentence_transformers.json")
    written = whole.get("prompts") or {}
    prompts = {name: text for name, text in written.items() if text is not None}
    similarity = whole.get("similarity_fn_name") or "cosine"
    if similarity not in ("cosine", "dot"):
        where = str(folder / "config_sentence_transformers.json")
        raise EvaluationError(f"similarity_fn_name is '{similarity}'; known are cosine and dot", where=where)
    most_tokens = settings.get("max_seq_length") or min(model.context_length, model.tokenizer.model_max_length)
    return Embedder(
        model=replace(model, context_length=most_tokens),
        steps=tuple(steps),
        prompts=prompts,
        default_prompt=prompts.get(whole.get("default_prompt_name") or "", ""),
        most_tokens=most_tokens,
        lower=bool(settings.get("do_lower_case")),
        similarity=similarity,
    )


def _modules(folder: Path) -> list[dict[str, Any]]:
    """Return the modules, in order, with the last part of each type's name."""
    where = folder / MODULES
    try:
        modules = json.loads(where.read_text(encoding="utf-8"))
        ordered = sorted(modules, key=lambda module: module["idx"])
        return [{"path": module["path"], "type": str(module["type"]).rpartition(".")[2]} for module in ordered]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError("expected the list of a SentenceTransformer's modules", where=str(where)) from error


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise EvaluationError(f"not JSON: {error}", where=str(file)) from error
    return content if isinstance(content, dict) else {}


def _pooling(file: Path) -> Step:
    config = _json(file)
    modes = _pooling_modes(config)
    for mode in modes:
        if mode not in _OLD_MODES.values():
            raise EvaluationError(f"the pooling '{mode}' is not known here", where=str(file))
    if config.get("include_prompt") is False:
        raise EvaluationError("include_prompt: false is not known here", where=str(file))
    return lambda states, mask: torch.cat([_pooled(states, mask, mode) for mode in modes], dim=-1)


def _pooling_modes(config: Mapping[str, Any]) -> list[str]:
    """List the modes of pooling, whose vectors are joined: by one key, or by a key for each mode in older files."""
    modes = config.get("pooling_mode")
    if isinstance(modes, str):
        return [modes]
    if modes is not None:
        return list(modes)
    old = [mode for key, mode in _OLD_MODES.items() if config.get(key)]
    return old or ["mean"]


def _pooled(states: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    """Make one vector of those of a text's tokens. Rows are padded on the right."""
    held = mask.unsqueeze(-1).to(states.dtype)
    if mode == "cls":
        return states[:, 0]
    if mode == "lasttoken":
        return states[torch.arange(len(states)), mask.sum(1) - 1]
    if mode == "max":
        return states.masked_fill(held == 0, float("-inf")).amax(1)
    if mode == "weightedmean":
        held = held * torch.arange(1, states.shape[1] + 1, device=states.device, dtype=states.dtype).view(1, -1, 1)
    length = held.sum(1).clamp(min=1e-9)
    return (states * held).sum(1) / (length.sqrt() if mode == "mean_sqrt_len_tokens" else length)


def _dense(folder: Path, device: torch.device) -> Step:
    config, source = _json(folder / "config.json"), open_files(folder)
    name = str(config.get("activation_function", "torch.nn.Tanh")).rpartition(".")[2].partition("(")[0]
    keys = {"in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name"}
    unknown = [key for key in config if key not in keys]
    strange = [key for key in unknown if config[key]]
    if name not in _ACTIVATIONS or strange or source.tensors.keys() - {"linear.weight", "linear.bias"}:
        what = f"the activation {name}" if name not in _ACTIVATIONS else f"'{[*strange, *source.tensors][0]}'"
        raise EvaluationError(f"{what} of a dense layer is not known here", where=str(folder))
    tensors = {}
    for tensor, spec in source.tensors.items():
        raw = np.empty(spec.elements, NUMPY[spec.dtype])
        source.read_into(tensor, 0, [raw])
        tensors[tensor] = torch.from_numpy(raw.astype(np.float32).reshape(spec.shape)).to(device)
    weight, bias, activation = tensors["linear.weight"], tensors.get("linear.bias"), _ACTIVATIONS[name]
    return lambda states, mask: activation(torch.nn.functional.linear(states, weight, bias))
