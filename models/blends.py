"""Check that blending helps: `python models/blends.py OUT` reads a trained family and writes `OUT/blends.json`.

Blends every expert in memory by a few well-known rules, written out here once more so that the check does not lean on
the code it vouches for. The setting of each rule is chosen on the public parts; the private parts are only reported.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from score import right_answers
from torch import Tensor, nn
from train import load
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

from cuvee.demo.skills import PARTS, SKILLS

Weights = dict[str, Tensor]
SCALES = (0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
Z_95 = 1.959964


@dataclass(frozen=True)
class Candidate:
    """A model or blend; `right[part]` is skills x questions of ones and zeros."""

    rule: str
    setting: str
    right: dict[str, Tensor]

    def mean(self, part: str) -> float:
        """Give the macro average of a part, in per cent."""
        return 100 * self.right[part].mean().item()


def main() -> None:
    """Score parents and blends of the family in the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder that train.py wrote")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(out / "models" / "base")
    model = load(out / "models" / "base")
    base = copied(model.state_dict())
    experts = {name: copied(load(out / "models" / name).state_dict()) for name in SKILLS}
    candidates = []
    for rule, setting, weights in chain(parents(base, experts), blends(base, list(experts.values()))):
        model.load_state_dict(weights)
        candidates.append(scored(rule, setting, model, tokenizer))
    (out / "blends.json").write_text(json.dumps(summary(candidates), indent=1) + "\n", encoding="utf-8")


def copied(weights: Weights) -> Weights:
    return {name: tensor.clone() for name, tensor in weights.items()}


def scored(rule: str, setting: str, model: nn.Module, tokenizer: PreTrainedTokenizerFast) -> Candidate:
    right = {
        part: torch.tensor(
            [right_answers(model, tokenizer, skill.questions(part)) for skill in SKILLS.values()]
        ).double()
        for part in PARTS
    }
    candidate = Candidate(rule, setting, right)
    for part in PARTS:
        by_skill = "  ".join(f"{100 * value:5.1f}" for value in right[part].mean(1).tolist())
        print(f"{rule:17} {setting:20} {part:8} {by_skill}  mean {candidate.mean(part):.1f}", flush=True)
    return candidate


# --- what is compared -----------------------------------------------------------------------------------------------


def parents(base: Weights, experts: dict[str, Weights]) -> Iterator[tuple[str, str, Weights]]:
    """Yield the models that a blend has to beat."""
    yield "parent", "base", base
    for name, weights in experts.items():
        yield "parent", name, weights


def blends(base: Weights, experts: list[Weights]) -> Iterator[tuple[str, str, Weights]]:
    """Yield each blend as rule, setting and weights (in the bfloat16 that a merged checkpoint would have)."""
    deltas = {name: torch.stack([expert[name] - base[name] for expert in experts]) for name in base}

    def blend(rule: str, setting: str, merged: Weights, scale: float = 1.0) -> tuple[str, str, Weights]:
        return rule, setting, {name: (base[name] + scale * merged[name]).bfloat16().float() for name in base}

    yield blend("linear", "average", {name: delta.mean(0) for name, delta in deltas.items()})
    yield blend("geometric_median", "", geometric_median(deltas))
    summed = {name: delta.sum(0) for name, delta in deltas.items()}
    for scale in SCALES:
        yield blend("task_arithmetic", f"weight {scale}", summed, scale)
    thinned = {name: delta.sum(0) for name, delta in dropped(deltas).items()}
    for scale in SCALES[:4]:
        yield blend("dare_linear", f"density 0.5 weight {scale}", thinned, scale)
    for density in (0.5, 0.2):
        merged = {name: ties(delta, density) for name, delta in deltas.items()}
        for scale in (0.6, 0.8, 1.0, 1.4):
            yield blend("ties", f"density {density} lambda {scale}", merged, scale)
    elected = {name: agreed(delta) for name, delta in dropped(deltas).items()}
    for scale in (0.6, 0.8, 1.0):
        yield blend("dare_ties", f"density 0.5 lambda {scale}", elected, scale)


def dropped(deltas: Weights) -> Weights:
    """Drop half of each task vector at random and double the rest (arXiv:2311.03099)."""
    generator = torch.Generator().manual_seed(0)
    return {name: 2 * delta * (torch.rand(delta.shape, generator=generator) < 0.5) for name, delta in deltas.items()}


def ties(delta: Tensor, density: float) -> Tensor:
    """Keep the largest elements of each task vector, then average those of the elected sign (arXiv:2306.01708)."""
    flat = delta.flatten(1).abs()
    least = flat.topk(max(1, int(density * flat.shape[1])), dim=1).values[:, -1]
    return agreed(delta.where(delta.abs() >= least.view(-1, *[1] * (delta.ndim - 1)), 0.0))


def agreed(delta: Tensor) -> Tensor:
    """Average the elements that have the sign of their sum."""
    kept = delta.where(delta.sign() == delta.sum(0).sign(), 0.0)
    return kept.sum(0) / (kept != 0).sum(0).clamp(min=1)


def geometric_median(deltas: Weights) -> Weights:
    """Find the point with the least summed distance to the models, all tensors as one vector (Weiszfeld)."""
    points = torch.cat([delta.flatten(1) for delta in deltas.values()], dim=1)
    weights = torch.full((len(points),), 1 / len(points))
    for _ in range(50):
        inverse = 1 / (points - weights @ points).norm(dim=1).clamp(min=1e-9)
        weights = inverse / inverse.sum()
    return {name: torch.tensordot(weights, delta, dims=1) for name, delta in deltas.items()}


# --- what is reported -----------------------------------------------------------------------------------------------


def summary(candidates: list[Candidate]) -> dict[str, object]:
    """Sum up: every candidate, and the blend best on public against the best parent, both on private."""
    own = [candidate for candidate in candidates if candidate.rule == "parent"]
    best = max((candidate for candidate in candidates if candidate.rule != "parent"), key=lambda c: c.mean("public"))
    parent = max(own, key=lambda candidate: candidate.mean("private"))
    margin, half = paired(best, parent)
    print(f"{best.rule} {best.setting} - {parent.setting}, private: {margin:.1f} +- {half:.1f} points")
    return {
        "candidates": [described(candidate) for candidate in candidates],
        "best_on_public": f"{best.rule} {best.setting}",
        "best_parent_on_private": parent.setting,
        "private_margin_points": round(margin, 2),
        "half_width_95": round(half, 2),
    }


def described(candidate: Candidate) -> dict[str, object]:
    return {
        "rule": candidate.rule,
        "setting": candidate.setting,
        **{
            part: {
                **{name: round(100 * right.mean().item(), 1) for name, right in zip(SKILLS, rights, strict=True)},
                "mean": round(candidate.mean(part), 2),
            }
            for part, rights in candidate.right.items()
        },
    }


def paired(first: Candidate, second: Candidate) -> tuple[float, float]:
    """Give the private difference of the macro averages and half its 95 % interval, in points."""
    difference = first.right["private"] - second.right["private"]
    variance = (difference.var(dim=1) / difference.shape[1]).sum() / len(difference) ** 2
    return 100 * difference.mean().item(), 100 * Z_95 * variance.sqrt().item()


if __name__ == "__main__":
    main()
