"""Checks that PEFT loads an adapter that was extracted, and computes with it as the fine-tuned model does."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from cuvee.adapters.adapter import WEIGHTS
from cuvee.amounts import bytes_text
from cuvee.arguments import as_path, as_reference
from cuvee.checkpoint import TensorSource, open_checkpoint
from cuvee.engine.adapters import extract_adapter
from cuvee.engine.combine import AdapterResult
from cuvee.engine.extract import Extraction
from cuvee.errors import CheckpointError, CuveeError, EvaluationError
from cuvee.extras import install_command
from cuvee.hub import Hub
from cuvee.plan.resolve import folder_of
from cuvee.progress import Progress, Silent
from cuvee.verify.load import first_line, load_whole, unasked

ROWS, TOKENS = 2, 12
"""Texts that are shown to the models, and tokens of each, spread over the vocabulary."""

EXACT = 1e-3
"""The relative error of logits up to which an adapter of the whole change computes what it should, in float32."""

NOTHING_LOST = 1e-10
"""A share of the energy that is no more than this was lost in rounding."""

MOST_MEMORY = 0.5
"""The part of the memory at hand that a model may take for a check that nobody asked for."""


@dataclass(frozen=True)
class AdapterCheck:
    """The outcome of a check: errors of logits against the fine-tuned model, with the adapter and without."""

    state: Literal["passed", "failed", "skipped"]
    found: str
    error: float | None = None
    base: float | None = None


def extract_checked(
    model: Path | str,
    base: Path | str,
    out: Path | str,
    how: Extraction,
    *,
    check: bool | None = None,
    threads: int = 1,
    overwrite: bool = False,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> tuple[AdapterResult, AdapterCheck | None]:
    """Extract an adapter, as `extract_adapter` does, and let PEFT load it.

    Args:
        check: True asks for the check, False leaves it out. With None it takes place where transformers and PEFT are
            there and the models fit into half of the memory at hand.

    Raises:
        CheckpointError: where PEFT does not load the adapter, or computes something else with it although it holds the
            whole change. The folder is then called `OUT.wrong`.
        EvaluationError: where a check was asked for and cannot take place.
    """
    hub = hub or Hub()
    heard = progress or Silent()
    place = as_path(out, "out")
    result = extract_adapter(model, base, place, how, threads=threads, overwrite=overwrite, hub=hub, progress=heard)
    wants_check = has_libraries() if check is None else check
    if not wants_check:
        return result, None
    names = as_reference(model, "model"), as_reference(base, "base")
    is_exact = result.discarded <= NOTHING_LOST and how.dtype == "float32"
    is_whole = is_exact and not result.notes
    found = _checked(names, place, hub, heard, is_whole=is_whole, is_asked=bool(check))
    if found.state == "skipped" and check:
        raise EvaluationError(f"the adapter is written and not checked: {found.found}", where=str(place))
    if found.state == "failed":
        raise _set_aside(place, found)
    return result, found


def has_libraries() -> bool:
    """Say whether the libraries that run an adapter are installed."""
    return all(find_spec(library) is not None for library in ("torch", "transformers", "peft"))


def check_adapter(adapter: Path, base: Path, model: Path, *, is_whole: bool) -> AdapterCheck:
    """Load folders of a fine-tuned model, then of its base with an adapter, and compare their logits on some tokens.

    `is_whole` says that the adapter holds the whole change, so that the two must agree. In float32; the two are loaded
    in turn. A model that transformers does not load is skipped, with the reason.
    """
    reasons = [reason for reason in map(unasked, (model, base)) if reason is not None]
    if not (adapter / WEIGHTS).is_file():
        reasons.append("PEFT loads adapters of one file alone")
    if reasons:
        return AdapterCheck("skipped", reasons[0])
    try:
        tuned = _loaded(model)
        tokens = _tokens(tuned)
        wanted = _logits(tuned, tokens)
        del tuned
        plain = _loaded(base)
        before = _logits(plain, tokens)
    except Exception as error:  # noqa: BLE001  # a model's files can make transformers fail in any way
        return AdapterCheck("skipped", f"transformers cannot run the two models: {first_line(error)}")
    try:
        after = _with_adapter(plain, adapter, tokens)
    except Exception as error:  # noqa: BLE001  # as above, of PEFT
        return AdapterCheck("failed", f"PEFT cannot load it: {first_line(error)}")
    return _judged(_error(after, wanted), _error(before, wanted), is_whole=is_whole)


def _checked(
    names: tuple[str, str], adapter: Path, hub: Hub, progress: Progress, *, is_whole: bool, is_asked: bool
) -> AdapterCheck:
    if not has_libraries():
        return AdapterCheck("skipped", f"transformers or PEFT is not installed: {install_command('peft')}")
    try:
        model, base = (folder_of(name, hub, progress) for name in names)
        sources = [open_checkpoint(place) for place in (model, base)]
    except CuveeError as error:
        return AdapterCheck("skipped", f"transformers loads folders with weights alone: {error.message}")
    needed, at_hand = max(map(_loaded_bytes, sources)), _memory_at_hand()
    if not is_asked and at_hand is not None and needed > at_hand * MOST_MEMORY:
        sizes = f"it takes {bytes_text(needed)}, of {bytes_text(at_hand)} that are free"
        return AdapterCheck("skipped", f"{sizes}; --check asks for it")
    return check_adapter(adapter, base, model, is_whole=is_whole)


def _loaded_bytes(source: TensorSource) -> int:
    return sum(spec.elements * 4 for spec in source.tensors.values())


def _memory_at_hand() -> int | None:
    """Return how much memory is free or can be freed, None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _loaded(folder: Path) -> Any:
    """Load a model. Raises ValueError where the files lack a tensor: transformers would draw it at random."""
    network, astray = load_whole(folder, "float32")
    lacking = astray.get("missing_keys", set()) | astray.get("mismatched_keys", set())
    if lacking:
        raise ValueError(f"{folder} has no '{min(lacking)}'")
    return network


def _tokens(network: Any) -> Any:
    """Return tokens from all over the vocabulary, none of them with a role of its own."""
    import torch

    count = network.get_input_embeddings().weight.shape[0]
    special = set(_special(network.config.to_dict()))
    usable = torch.tensor([token for token in range(count) if token not in special])
    places = torch.linspace(0, len(usable) - 1, ROWS * TOKENS).long()
    return usable[places].reshape(TOKENS, ROWS).T


def _special(config: Mapping[Any, Any]) -> Iterator[int]:
    """Yield the numbers of tokens that a config names, also those that stand for pictures."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _special(value)
            continue
        if not str(key).endswith(("token_id", "token_index", "token_ids")):
            continue
        numbers = value if isinstance(value, list) else [value]
        yield from (number for number in numbers if isinstance(number, int))


def _logits(network: Any, tokens: Any) -> Any:
    import torch

    more = {"decoder_input_ids": tokens} if network.config.is_encoder_decoder else {}
    with torch.no_grad():
        return network.eval()(input_ids=tokens, **more)[0].double()


def _with_adapter(network: Any, adapter: Path, tokens: Any) -> Any:
    """Run a network with an adapter. Raises ValueError for tensors that PEFT lacks or does not expect."""
    import warnings

    import peft

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tied weights and the like; what counts is compared below
        over = peft.PeftModel(network, peft.PeftConfig.from_pretrained(str(adapter)))
        report = over.load_adapter(str(adapter), "default")
        lacking = [key for key in report.missing_keys if "lora_" in key or "modules_to_save" in key]
        astray = [*report.unexpected_keys, *lacking]
        if astray:
            raise ValueError(f"{len(astray)} tensors are astray, such as '{astray[0]}'")
        return _logits(over, tokens)


def _error(found: Any, wanted: Any) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _judged(error: float, base: float, *, is_whole: bool) -> AdapterCheck:
    count = ROWS * TOKENS
    if is_whole:
        found = f"run by PEFT on {count} tokens, it computes the fine-tune's logits, within {EXACT:.1%}"
        if error < EXACT:  # false of an error that is no number
            return AdapterCheck("passed", found, error, base)
        found = f"run by PEFT on {count} tokens, logits are {error:.2%} off, though it holds the whole change"
        return AdapterCheck("failed", found, error, base)
    found = f"run by PEFT on {count} tokens, logits are {error:.2%} off the fine-tune's; the base's are {base:.2%} off"
    return AdapterCheck("passed", found, error, base)


def _set_aside(place: Path, found: AdapterCheck) -> CheckpointError:
    """Call a wrong folder otherwise than a right folder."""
    other = place.with_name(f"{place.name}.wrong")
    shutil.rmtree(other, ignore_errors=True)
    place.rename(other)
    hint = f"the adapter is in {other}, for you to look at; --no-check leaves this check out"
    return CheckpointError(f"the adapter is wrong: {found.found}", where=str(place), hint=hint)
