"""A measurer without a model: the chance of every item to be answered is a smooth function of the recipe's numbers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml
from blake3 import blake3

from cuvee.search.race import Answer, Items
from cuvee.search.space import WrittenSpace, parse_space

MODELS = ("red", "green", "blue")
TASKS = ("one", "two")


def space(**keys: object) -> WrittenSpace:
    """Return a space over three models that are nowhere."""
    document = {"base_model": "base", "models": list(MODELS), "tasks": list(TASKS), **keys}
    return parse_space(yaml.safe_dump(document), folder=Path("/nowhere"), where="space.yaml")


def items(tasks: Sequence[str] = TASKS, each: int = 100) -> dict[str, list[str]]:
    return {task: [f"{task} {number}" for number in range(each)] for task in tasks}


class Surrogate:
    """Answers at once, in as many slots as asked for; the first slot that was given something is done first."""

    def __init__(self, chance: Callable[[str], float], *, slots: int = 1, seed: int = 0) -> None:
        self.slots, self.calls = slots, 0
        self._chance, self._seed = chance, seed
        self._waiting: list[Answer] = []

    def submit(self, slot: int, recipe: str, items: Items) -> None:
        self.calls += 1
        chance = self._chance(recipe)
        scores = {task: [self._score(recipe, item, chance) for item in ids] for task, ids in items.items()}
        self._waiting.append(Answer(slot, scores, sum(map(len, items.values())), 0.01))

    def next_done(self) -> Answer:
        return self._waiting.pop(0)

    def _score(self, recipe: str, item: str, chance: float) -> float:
        ease = _share(f"{self._seed} {item}")
        luck = _share(f"{self._seed} {item} {recipe}")
        return float(0.7 * ease + 0.3 * luck < chance)


def _share(text: str) -> float:
    """Return a number from 0 to 1 that looks random."""
    return int.from_bytes(blake3(text.encode()).digest(4)) / 2**32


def scale_chance(recipe: str) -> float:
    """Return 0.8 where all weights times the scale are 0.6, and less the farther off they are."""
    document: Mapping[str, object] = yaml.safe_load(recipe)
    parameters = document.get("parameters", {})
    assert isinstance(parameters, dict)
    scale = parameters.get("lambda", 1.0)
    scale = sum(scale) / len(scale) if isinstance(scale, list) else scale
    distances = []
    models = document["models"]
    assert isinstance(models, list)
    for model in models:
        weight = model.get("parameters", {}).get("weight", parameters.get("weight", 1.0))
        points = weight if isinstance(weight, list) else [weight]
        distances += [(float(point) * scale - 0.6) ** 2 for point in points]
    return 0.8 - 1.5 * sum(distances) / len(distances)
