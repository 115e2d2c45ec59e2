"""The rows of routers and gates: one for each expert and layer, of unit length but where they are random or fitted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cuvee.checkpoint import TensorSource
from cuvee.checkpoint.dtypes import NUMPY
from cuvee.errors import CheckpointError, MissingExtra
from cuvee.structure import is_before_layers
from cuvee.structure.vocabulary import vocabulary_rows, vocabulary_tensors
from cuvee.tokenizers.check import built
from cuvee.tokenizers.read import JSON, read_tokenizer
from cuvee.upcycle.recipe import DRAWN, FITTED, Expert, Upcycling
from cuvee.upcycle.regression import Wanted, fit_router

CERTAINTY = 0.9
"""The probability that a fitted router gives, where it can, to the expert whose text it reads."""

FIT_RIDGE = 1e-3
"""Of the mean curvature: how strongly fitted routers are held at zero, where a few short texts decide little."""

FIRST_PART = "mlp.gate_proj"
"""A matrix that sees what a router in its layer will see."""

Seen = Callable[[str], np.ndarray]
"""What a text looks like to a model: a direction, or one for each layer."""


def gates(recipe: Upcycling, base: TensorSource, place: Path, layers: int, width: int) -> np.ndarray:
    """Return [layers, gated experts, width] in float32. Raises CheckpointError, or MissingExtra."""
    if recipe.gate_mode in DRAWN:
        return np.stack([_drawn(recipe, layer, width) for layer in range(layers)]).astype(np.float32)
    if recipe.gate_mode == "cheap_embed":
        embedded = _embedded(base, place)
        rows = np.stack([_directed(embedded, expert) for expert in recipe.gated])
        return np.repeat(rows[None], layers, axis=0).astype(np.float32)
    if recipe.gate_mode == FITTED:
        return _fitted(recipe, place, layers, width)
    states = _hidden_states(place, average=recipe.gate_mode == "hidden_avg")
    directions = [_directed(states, expert) for expert in recipe.gated]
    return np.stack(directions, axis=1)[:layers].astype(np.float32)


def _drawn(recipe: Upcycling, layer: int, width: int) -> np.ndarray:
    """Draw a layer's rows: of a normal distribution, or as torch draws a new linear map of this width."""
    generator = np.random.default_rng([recipe.seed, layer])
    shape = (len(recipe.gated), width)
    if recipe.gate_mode == "uniform_random":
        bound = width**-0.5
        return generator.uniform(-bound, bound, shape)
    return generator.standard_normal(shape)


def _directed(seen: Seen, expert: Expert) -> np.ndarray:
    """Return the mean of the positive texts less that of the negative texts, at unit length."""
    direction = np.mean([seen(text) for text in expert.positive_prompts], axis=0)
    if expert.negative_prompts:
        direction = direction - np.mean([seen(text) for text in expert.negative_prompts], axis=0)
    length = np.linalg.norm(direction, axis=-1, keepdims=True)
    if not length.all():
        raise CheckpointError("the prompts of an expert cancel each other out", where=expert.source_model)
    unit: np.ndarray = direction / length
    return unit


def _embedded(base: TensorSource, place: Path) -> Seen:
    """Return the mean of a text's token embeddings."""
    rows = vocabulary_rows(base.tensors, base.config)
    names = list(filter(is_before_layers, vocabulary_tensors(base.tensors, rows or 0)))
    if not names:
        raise CheckpointError("has no embedding of tokens", where=str(place))
    spec = base.tensors[names[0]]
    raw = np.empty(spec.elements, NUMPY[spec.dtype])
    base.read_into(spec.name, 0, [raw])
    table = raw.reshape(spec.shape).astype(np.float64)
    content = read_tokenizer(place).content
    if content is None:
        raise CheckpointError(f"has no {JSON} to cut texts with", where=str(place))
    library = built(content)
    return lambda text: np.asarray(table[library.encode(text).ids].mean(axis=0))


def _hidden_states(place: Path, *, average: bool) -> Seen:
    """Return the state that enters each layer, at a text's last token or on average over all: [layers, width]."""
    tokenizer, network = _loaded(place)
    import torch

    def seen(text: str) -> np.ndarray:
        with torch.no_grad():
            out = network(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        states = torch.stack(out.hidden_states[:-1])[:, 0].double()
        reduced = states.mean(dim=1) if average else states[:, -1]
        return np.asarray(reduced.numpy())

    return seen


def _loaded(place: Path) -> tuple[Any, Any]:
    """Load the base's tokenizer and network, in float32. Raises MissingExtra or CheckpointError."""
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra("eval", missing=str(error.name)) from error
    transformers.utils.logging.disable_progress_bar()
    try:
        told = {"local_files_only": True, "trust_remote_code": False}
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **told)
        network = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **told).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"transformers cannot load this model: {error}", where=str(place)) from error
    return tokenizer, network


def _fitted(recipe: Upcycling, place: Path, layers: int, width: int) -> np.ndarray:
    """Solve each layer's router so that every token of an expert's texts goes to that expert."""
    seen = _router_inputs(place, layers)
    inputs = [seen(expert.positive_prompts) for expert in recipe.experts]
    count = len(recipe.experts)
    start = np.zeros((count, width))
    rows = []
    for layer in range(layers):
        texts = [_of_one_expert(own[layer], number, count) for number, own in enumerate(inputs)]
        rows.append(fit_router(start, texts, ridge=FIT_RIDGE).weight)
    return np.stack(rows).astype(np.float32)


def _of_one_expert(inputs: np.ndarray, number: int, experts: int) -> Wanted:
    """Return the choice that an expert's text asks for: that expert, with CERTAINTY, at every position."""
    probabilities = np.full((len(inputs), experts), (1 - CERTAINTY) / (experts - 1))
    probabilities[:, number] = CERTAINTY
    return Wanted(inputs, np.log(probabilities), probabilities)


def _router_inputs(place: Path, layers: int) -> Callable[[Sequence[str]], list[np.ndarray]]:
    """Return a function of texts that gives each layer's feed-forward inputs: [tokens, width] of float32."""
    tokenizer, network = _loaded(place)
    import torch

    parts = [module for name, module in network.named_modules() if name.endswith(FIRST_PART)]
    if len(parts) != layers:
        message = f"the network has {len(parts)} modules '{FIRST_PART}', and the model {layers} layers with such parts"
        raise CheckpointError(message, where=str(place))
    seen: list[list[np.ndarray]] = [[] for _ in parts]

    def noting(rows: list[np.ndarray]) -> Callable[..., None]:
        def hook(module: Any, arguments: tuple[Any, ...]) -> None:
            rows.append(arguments[0].reshape(-1, arguments[0].shape[-1]).numpy())

        return hook

    for module, rows in zip(parts, seen, strict=True):
        module.register_forward_pre_hook(noting(rows))

    def inputs(texts: Sequence[str]) -> list[np.ndarray]:
        for rows in seen:
            rows.clear()
        with torch.no_grad():
            for text in texts:
                network(**tokenizer(text, return_tensors="pt"))
        return [np.concatenate(rows) for rows in seen]

    return inputs
