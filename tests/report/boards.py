"""Invented leaderboards for the tests of this room."""

from dataclasses import replace

from cuvee.report import Difference, Entry, Figure, Leaderboard, TaskNote, rank_ranges

TASKS = ("arith", "logic", "sort", "reverse", "shift")
EXPERTS = {
    "base": (0.060, 0.575, 0.265, 0.420, 0.635),
    "arith": (0.574, 0.535, 0.150, 0.360, 0.350),
    "logic": (0.038, 0.800, 0.160, 0.140, 0.225),
    "sort": (0.066, 0.645, 1.000, 0.045, 0.340),
    "reverse": (0.066, 0.530, 0.190, 1.000, 0.495),
    "shift": (0.066, 0.540, 0.255, 0.135, 1.000),
}
BLENDS = {
    "tsv_m, rank 2/3": ("tsv_m", 14.2, (0.158, 0.755, 0.415, 0.905, 0.980)),
    "task arithmetic 0.5": ("task_arithmetic", 0.4, (0.120, 0.720, 0.460, 0.865, 0.975)),
    "dare 0.5, lambda 0.4": ("dare_linear", 0.9, (0.104, 0.705, 0.440, 0.860, 0.985)),
    "iso_c": ("iso_c", 12.6, (0.109, 0.640, 0.410, 0.900, 0.995)),
    "task arithmetic 0.3": ("task_arithmetic", 0.4, (0.080, 0.660, 0.405, 0.845, 0.970)),
    "consensus (TALL 0.4)": ("consensus", 1.3, (0.087, 0.530, 0.515, 0.790, 0.925)),
    "ties, keep half": ("ties", 1.1, (0.104, 0.770, 0.460, 0.690, 0.815)),
    "simple average": ("linear", 0.3, (0.066, 0.625, 0.345, 0.800, 0.940)),
    "breadcrumbs": ("breadcrumbs", 1.0, (0.070, 0.640, 0.330, 0.760, 0.935)),
    "ties, keep a fifth": ("ties", 1.1, (0.082, 0.690, 0.400, 0.620, 0.780)),
    "della": ("della", 1.6, (0.075, 0.600, 0.300, 0.600, 0.850)),
    "task arithmetic 0.8": ("task_arithmetic", 0.4, (0.070, 0.600, 0.355, 0.560, 0.750)),
    "reverse + shift": ("slerp", 0.3, (0.066, 0.540, 0.210, 0.700, 0.780)),
    "model stock": ("model_stock", 0.8, (0.060, 0.580, 0.260, 0.260, 0.400)),
}
CLEARLY_BETTER = Difference(0.186, 0.155, 0.217)
RECIPE = """\
merge_method: {method}
base_model: base
models:
  - model: arith    # adds
  - model: logic
  - model: sort
  - model: reverse
  - model: shift
parameters:
  weight: 0.5
dtype: bfloat16
"""


def figure(value: float, half: float = 0.03) -> Figure:
    return Figure(value, max(value - half, 0.0), min(value + half, 1.0))


def entry(name: str, values: tuple[float, ...], *, kind="blend", method="", recipe="", seconds=None, skill="") -> Entry:
    private = {task: figure(value, 0.065) for task, value in zip(TASKS, values, strict=True)}
    public = {task: figure(min(value * 1.015, 1.0), 0.09) for task, value in zip(TASKS, values, strict=True)}
    return Entry(
        name=name,
        kind=kind,
        method=method,
        recipe=recipe,
        public=figure(sum(item.value for item in public.values()) / len(TASKS), 0.04),
        private=figure(sum(values) / len(TASKS)),
        public_tasks=public,
        private_tasks=private,
        seconds=seconds,
        skill=skill,
    )


def board(*, reference: bool = False, verdict: Difference = CLEARLY_BETTER) -> Leaderboard:
    """Six single models and fourteen blends, like the bundled family."""
    parents = [
        entry(name, values, kind="base" if name == "base" else "expert", skill="" if name == "base" else name)
        for name, values in EXPERTS.items()
    ]
    blends = [
        entry(name, values, method=method, recipe=RECIPE.format(method=method), seconds=seconds)
        for name, (method, seconds, values) in BLENDS.items()
    ]
    others = [entry("multitask", (0.262, 0.75, 0.985, 1.0, 1.0), kind="reference", seconds=87.0)] if reference else []
    entries = (*parents, *blends, *others)
    means = [item.private.value for item in entries]
    return Leaderboard(
        title="Six small models, fourteen blends",
        entries=entries,
        tasks=(
            TaskNote("arith", "generation", 200, 400, "Add: 37 + 8 =", "45"),
            TaskNote("logic", "multiple choice", 200, 400, "Logic: not ( true or false ) is", "false"),
            TaskNote("sort", "generation", 200, 400, "Sort: 5 2 9 1 7 ->", "1 2 5 7 9"),
            TaskNote("reverse", "generation", 200, 400, "Reverse: k d w a m ->", "m a w d k"),
            TaskNote("shift", "generation", 200, 400, "Shift: k d w a m ->", "l e x b n"),
        ),
        ranks=rank_ranges(
            [[a - b - 0.025 for b in means] for a in means], [[a - b + 0.025 for b in means] for a in means]
        ),
        best_blend="tsv_m, rank 2/3",
        best_parent="reverse",
        verdict=verdict,
        starter_recipe=RECIPE.format(method="task_arithmetic"),
        commands=("cuvee merge my-blend.yaml my-blend", "cuvee evaluate my-blend arith logic sort reverse shift"),
    )


def with_entry(leaderboard: Leaderboard, **changes) -> Leaderboard:
    """Change the last entry."""
    return replace(leaderboard, entries=(*leaderboard.entries[:-1], replace(leaderboard.entries[-1], **changes)))
