"""The cost and the work of a repair, found by doing a little of it: seconds, memory, and the rule of every tensor."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cuvee.calibrate.depth_loop import DepthLoop, Expert
from cuvee.calibrate.journal import BlockJournal
from cuvee.calibrate.network import BlockNetwork
from cuvee.calibrate.outcome import TextFigures
from cuvee.calibrate.repair import DEFAULT_MEMORY, open_for_recipe, text_figures
from cuvee.calibrate.settings import Alignment
from cuvee.calibrate.text import warnings_of
from cuvee.engine.peak import PeakMemory
from cuvee.plan import Plan

SAMPLES = (8, 3)
"""Every how manyth document the first block is tried with, twice: what does not grow with the text shows between."""


@dataclass(frozen=True)
class AlignmentForecast:
    """The cost of a repair on this machine as busy as it is now, and the rule of every tensor of the output."""

    seconds: float
    memory_bytes: int
    rules: Mapping[str, str]
    texts: tuple[TextFigures, ...]
    warnings: tuple[str, ...]


def forecast_alignment(plan: Plan, *, threads: int = 1) -> AlignmentForecast:
    """Forecast the repair that a plan's recipe asks for. A model of the plan stands in for the merge.

    Raises the errors of the repair itself for its models and texts.
    """
    models, how = open_for_recipe(plan)
    network = models.merged.network
    experts = [Expert(name, own.network, models.texts[name]) for name, own in models.experts.items()]
    with tempfile.TemporaryDirectory() as folder:
        loop = _loop(network, experts, how, Path(folder) / "whole", threads)
        tried = _tried(network, experts, how, Path(folder), threads)
        rules = _rules(network, models.merged.parent.source.tensors, loop)
        figures = text_figures(models, how)
        warnings = tuple(warnings_of(models.texts, how.positions))
        memory = loop.held_bytes + tried.other_bytes
        return AlignmentForecast(network.depth * tried.block_seconds, memory, rules, figures, warnings)


def _loop(network: BlockNetwork, experts: Sequence[Expert], how: Alignment, folder: Path, threads: int) -> DepthLoop:
    journal = BlockJournal(folder, {})
    return DepthLoop(network, experts, how, journal, threads=threads, memory_bytes=DEFAULT_MEMORY)


@dataclass(frozen=True)
class _Tried:
    """The cost of a block with the whole text, and the memory of libraries beside the bytes that we know to be held."""

    block_seconds: float
    other_bytes: int


def _tried(network: BlockNetwork, experts: Sequence[Expert], how: Alignment, folder: Path, threads: int) -> _Tried:
    """Do the first block with two samples of the text. The costs that grow with the text show between them."""
    tokens, seconds, held = [], [], 0
    with PeakMemory() as peak:
        for every in SAMPLES:
            sampled = [replace(own, text=replace(own.text, documents=own.text.documents[::every])) for own in experts]
            loop = _loop(network, sampled, how, folder / f"{every}", threads)
            tokens.append(sum(own.text.tokens for own in sampled))
            seconds.append(loop.run_first())
            held = max(held, loop.held_bytes)
    whole = sum(own.text.tokens for own in experts)
    growth = (seconds[1] - seconds[0]) / max(tokens[1] - tokens[0], 1)
    block_seconds = seconds[1] + max(growth, 0.0) * (whole - tokens[1])
    return _Tried(block_seconds, max(0, peak.bytes() - held))


def _rules(network: BlockNetwork, names: Mapping[str, object], loop: DepthLoop) -> dict[str, str]:
    rules = dict.fromkeys(names, "anchor")
    for number in range(network.depth):
        for name in loop.solved_in(number):
            stored = network.stored_name(number, name)
            if stored is not None:
                rules[stored] = "aligned"
    return rules
