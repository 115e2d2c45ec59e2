"""How near adapters come to PEFT: `PYTHONPATH=tests python -m adapters.measured` writes what the docs show."""

import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cuvee
from adapters import conftest, kinds_of_peft
from adapters.conftest import KINDS, RANK, Made, load, logits, peft, peft_logits, relative_error, torch
from adapters.kinds_of_peft import VARIANTS
from cuvee.adapters.low_rank import Wanted
from cuvee.engine.combine import How
from cuvee.engine.extract import Extraction
from cuvee.errors import CheckpointError

RECORD = Path(__file__).parent / "kinds.json"
"""The release of PEFT that was measured, and for each option of LoRA and each other kind what `compared` gives."""


def compared(made: Made, folder: Path) -> dict[str, str]:
    """Return how far the model with the adapter is from what PEFT computes, and what is made of the adapter and of it.

    That is the adapter combined with nothing, and the adapter that is extracted from the model. Each is a bound of the
    relative error of the logits, or why it is refused.
    """
    whole, one, back = (folder / name for name in ("whole", "one", "back"))
    return {
        "apply": bound(made, lambda: logits(load(cuvee.apply_adapter(made.base, made.adapter, whole).folder))),
        "combine": bound(made, lambda: combined(made, one)),
        "extract": bound(made, lambda: extracted(made, whole, back)),
    }


def combined(made: Made, out: Path) -> "torch.Tensor":
    how = How(wanted=Wanted(energy=1.0))
    return peft_logits(made.base, cuvee.combine_adapters([made.adapter], [1.0], out, how, base=made.base).folder)


def extracted(made: Made, whole: Path, out: Path) -> "torch.Tensor":
    how = Extraction(wanted=Wanted(energy=1.0))
    return peft_logits(made.base, cuvee.extract_adapter(whole, made.base, out, how).folder)


def bound(made: Made, compute: Callable[[], "torch.Tensor"]) -> str:
    """Return the power of ten above the error, or the refusal in its own words."""
    try:
        error = relative_error(compute(), made.logits)
    except CheckpointError as problem:
        first = (problem.problems or (problem,))[0]
        return f"refused: {first.message}"
    return f"1e{math.floor(math.log10(max(error, 1e-9))) + 1:d}"


def lora(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Compare each of LoRA's options."""
    for name, (base, settings) in KINDS.items():
        place = Path(tempfile.mkdtemp(dir=folder))
        plain = saved(base, folder)
        made = Made(plain, place / "a", conftest.train(plain, place / "a", 0, {**RANK, **settings}))
        yield name, compared(made, place)


def others(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Compare each other kind, in each of its variants."""
    for kind, variants in VARIANTS.items():
        for variant, settings in variants.items():
            place = Path(tempfile.mkdtemp(dir=folder))
            made = kinds_of_peft.train(saved("biased", folder), place / "a", kind, settings)
            yield f"{kind} {variant}".strip(), compared(made, place)


def saved(base: str, folder: Path) -> Path:
    """Write a tiny base, once."""
    place = folder / base
    if not place.exists():
        conftest.write_base(base, place)
    return place


def main() -> None:
    conftest.transformers.utils.logging.set_verbosity_error()
    conftest.transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record: dict[str, Any] = {"peft": peft.__version__, "lora": dict(lora(folder)), "kinds": dict(others(folder))}
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
