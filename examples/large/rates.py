"""How fast this machine is: its disk, its device, its cores. Every rate is measured, or comes from a file.

A file names rates of another machine, such as those of a card by its data sheet; what it leaves out is measured here.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import transformers

from cuvee.errors import RecipeError
from cuvee.plan.seconds import measured_rates

DISK_BYTES = 1 << 27
COPIED_BYTES = {"cpu": 1 << 27, "cuda": 1 << 31}
SIZE = {"cpu": 1024, "cuda": 8192}
"""Of the matrices that are multiplied."""

LAYERS, STEPS = 8, 16
DOWNLOAD = 100e6
"""Bytes a second from a hub, which nobody can measure without loading much: an assumption."""


@dataclass(frozen=True)
class Rates:
    """Bytes a second of the disk, the network and the device's memory; operations a second of its products in bfloat16.

    `layer_seconds` is the least time of a layer for a token, whatever its size: of Python and of starting kernels.
    `merge_operations` and `merge_decomposition` are those of a core for merges of whole matrices. `card` says of which
    device this is.
    """

    card: str
    disk_read: float
    disk_write: float
    download: float
    device_bytes: float
    device_operations: float
    layer_seconds: float
    merge_operations: float
    merge_decomposition: float


def rates(work: Path, device: str, file: Path | None) -> Rates:
    """Return the rates of a file, and measure all others; they are written to WORK/rates.json. Raises RecipeError."""
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    strange = known.keys() - {field.name for field in fields(Rates)}
    if strange:
        raise RecipeError(f"no such rates: {', '.join(sorted(strange))}", where=str(file))
    place = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    measured = _measured(work, place, known)
    found = Rates(**{**measured, **known})
    (work / "rates.json").write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    return found


def _measured(work: Path, place: str, known: dict[str, Any]) -> dict[str, Any]:
    card = f"measured here: {torch.cuda.get_device_name() if place == 'cuda' else 'the processor'}"
    core = measured_rates()
    read, written = _disk(work)
    measured: dict[str, Any] = {"card": card, "disk_read": read, "disk_write": written, "download": DOWNLOAD}
    measured |= {"merge_operations": core.operations, "merge_decomposition": core.decomposition}
    measured["layer_seconds"] = _layer_seconds(place)
    if "device_bytes" not in known:
        measured["device_bytes"] = _copies(place)
    if "device_operations" not in known:
        measured["device_operations"] = _products(place)
    return measured


def _disk(work: Path) -> tuple[float, float]:
    """Write a file and read it again, past the system's cache where the system lets us."""
    file = work / ".rate"
    block = os.urandom(1 << 20)
    start = time.perf_counter()
    with file.open("wb") as opened:
        for _ in range(DISK_BYTES >> 20):
            opened.write(block)
        opened.flush()
        os.fsync(opened.fileno())
    written = time.perf_counter() - start
    with file.open("rb") as opened:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        while opened.read(1 << 20):
            pass
        read = time.perf_counter() - start
    file.unlink()
    return DISK_BYTES / read, DISK_BYTES / written


def _copies(place: str) -> float:
    """Return the bytes that are read and written a second when the device's memory is copied."""
    source = torch.ones(COPIED_BYTES[place], dtype=torch.uint8, device=place)
    target = torch.empty_like(source)
    return 2 * COPIED_BYTES[place] / _least_seconds(lambda: target.copy_(source), place)


def _products(place: str) -> float:
    size = SIZE[place]
    values = torch.randn(size, size, device=place).to(torch.bfloat16)
    return 2 * size**3 / _least_seconds(lambda: values @ values, place)


def _layer_seconds(place: str) -> float:
    """Write a few tokens with a model whose numbers take no time."""
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 64}
    config = transformers.LlamaConfig(**sizes, num_hidden_layers=LAYERS, eos_token_id=None)
    model = transformers.LlamaForCausalLM(config).to(place).eval()
    prompt = torch.ones(1, 4, dtype=torch.long, device=place)

    def write(steps: int) -> None:
        model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=steps, do_sample=False)

    write(1)
    return _least_seconds(lambda: write(STEPS), place) / (LAYERS * STEPS)


def _least_seconds(work: Callable[[], object], place: str) -> float:
    def once() -> float:
        start = time.perf_counter()
        work()
        if place == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    once()
    return min(once() for _ in range(3))
