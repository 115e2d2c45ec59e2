"""What a repair will take and do, found by doing a little of it: seconds, memory, and the rule of every tensor."""

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
from cuvee.plan import Plan

SAMPLES = (8, 3)
"""Every how manyth document the first block is tried with, twice: what does not grow with the text shows between."""


@dataclass(frozen=True)
class AlignmentForecast:
    """What a repair will take on this machine as busy as it is now, and what becomes of every tensor of the output."""

    seconds: float
    memory_bytes: int
    rules: Mapping[str, str]
    texts: tuple[TextFigures, ...]
    warnings: tuple[str, ...]


def forecast_alignment(plan: Plan, *, threads: int = 1) -> AlignmentForecast:
    """Forecast the repair that a plan's recipe asks for. One of its models stands in for the merge.

    Raises what the repair itself would raise for its models and texts.
    """
    models, how = open_for_recipe(plan)
    network = models.merged.network
    experts = [Expert(name, own.network, models.texts[name]) for name, own in models.experts.items()]
    with tempfile.TemporaryDirectory() as folder:
        loop = _loop(network, experts, how, Path(folder) / "whole", threads)
        seconds = network.depth * _seconds_of_block(network, experts, how, Path(folder), threads)
        rules = _rules(network, models.merged.parent.source.tensors, loop)
        figures = text_figures(models, how)
        warnings = tuple(warnings_of(models.texts, how.positions))
        return AlignmentForecast(seconds, loop.held_bytes, rules, figures, warnings)


def _loop(network: BlockNetwork, experts: Sequence[Expert], how: Alignment, folder: Path, threads: int) -> DepthLoop:
    journal = BlockJournal(folder, {})
    return DepthLoop(network, experts, how, journal, threads=threads, memory_bytes=DEFAULT_MEMORY)


def _seconds_of_block(
    network: BlockNetwork, experts: Sequence[Expert], how: Alignment, folder: Path, threads: int
) -> float:
    """Return what a block takes: the part that grows with the text, and the part that does not."""
    tokens, seconds = [], []
    for every in SAMPLES:
        sampled = [replace(own, text=replace(own.text, documents=own.text.documents[::every])) for own in experts]
        tokens.append(sum(own.text.tokens for own in sampled))
        seconds.append(_loop(network, sampled, how, folder / f"{every}", threads).run_first())
    whole = sum(own.text.tokens for own in experts)
    growth = (seconds[1] - seconds[0]) / max(tokens[1] - tokens[0], 1)
    return seconds[1] + max(growth, 0.0) * (whole - tokens[1])


def _rules(network: BlockNetwork, names: Mapping[str, object], loop: DepthLoop) -> dict[str, str]:
    rules = dict.fromkeys(names, "anchor")
    for number in range(network.depth):
        for name in loop.solved_in(number):
            stored = network.stored_name(number, name)
            if stored is not None:
                rules[stored] = "aligned"
    return rules
