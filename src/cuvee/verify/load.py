"""Whether transformers loads a model whole, and whether it says something."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from cuvee.extras import install_command

Found = tuple[str, Literal["passed", "failed", "skipped"], str]
PROMPT = "The"
TOKENS = 16


def loads(folder: Path) -> Iterator[Found]:
    """Load the model with its own class, then continue a text greedily. Code of the model's own is not run."""
    try:
        import torch
        import transformers
    except ImportError as error:
        for name in ("loads", "sample"):
            yield name, "skipped", f"{error.name} is not installed: {install_command('eval')}"
        return
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        named = str((config.get("architectures") or ["AutoModel"])[0])
        kind = getattr(transformers, named, None)
        if kind is None:
            yield "loads", "skipped", f"transformers has no class {named}"
            yield "sample", "skipped", "the model was not loaded"
            return
        network, told = kind.from_pretrained(
            folder, output_loading_info=True, local_files_only=True, trust_remote_code=False, dtype="auto"
        )
    except Exception as error:  # noqa: BLE001  # a model's files can make transformers fail in any way
        yield "loads", "failed", f"transformers: {_first_line(error)}"
        yield "sample", "skipped", "the model was not loaded"
        return
    astray = {key: list(names) for key, names in told.items() if names}
    if astray:
        listed = "; ".join(f"{key.replace('_', ' ')}: {len(names)}, {names[0]}" for key, names in astray.items())
        yield "loads", "failed", f"{named} reports {listed}"
    else:
        yield "loads", "passed", f"{named} takes every tensor and lacks none"
    yield _sample(folder, network, transformers, torch)


def _sample(folder: Path, network: Any, transformers: Any, torch: Any) -> Found:
    if not network.can_generate():
        return "sample", "skipped", f"{type(network).__name__} generates no text"
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001  # as above
        return "sample", "skipped", f"no tokenizer: {_first_line(error)}"
    try:
        given = tokenizer(PROMPT, return_tensors="pt")
        with torch.no_grad():
            out = network.generate(
                **given, max_new_tokens=TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
            )
    except Exception as error:  # noqa: BLE001  # as above
        return "sample", "failed", f"generating failed: {_first_line(error)}"
    if not all(bool(torch.isfinite(step).all()) for step in out.logits):
        return "sample", "failed", "the logits are not finite"
    text = tokenizer.decode(out.sequences[0], skip_special_tokens=True)
    return "sample", "passed", f"greedily: {json.dumps(text, ensure_ascii=False)}"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
