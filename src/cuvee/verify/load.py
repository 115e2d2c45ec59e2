"""Checks that transformers loads a model whole, and that it writes a text; if its parents cannot, it need not."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cuvee.checkpoint.naming import start_of_weights, variant_of
from cuvee.extras import install_command

Found = tuple[str, Literal["passed", "failed", "skipped"], str]
PROMPT = "The"
TOKENS = 16


def loads(folder: Path, parents: Sequence[Path] = ()) -> Iterator[Found]:
    """Load the model with its own class, then continue a text greedily. Code of the model's own is not run.

    `parents` are folders of models that it was made of. They are loaded only where something is wrong, to see whether
    it is wrong with all of them.
    """
    reason = unasked(folder)
    if reason is not None:
        yield "loads", "skipped", reason
        yield "sample", "skipped", "the model was not loaded"
        return
    try:
        network, astray = load_whole(folder)
    except Exception as error:  # noqa: BLE001  # a model's files can make transformers fail in any way
        yield "loads", "failed", f"transformers: {first_line(error)}"
        yield "sample", "skipped", "the model was not loaded"
        return
    yield _whole(type(network).__name__, astray, parents)
    yield _sample(folder, network, parents)


def unasked(folder: Path) -> str | None:
    """Say why transformers cannot be asked about a model; None if it can."""
    try:
        import torch  # noqa: F401  # transformers makes no models without it
        import transformers
    except ImportError as error:
        return f"{error.name} is not installed: {install_command('eval')}"
    if not (folder / "config.json").is_file():
        return "there is no config.json"
    config = _config(folder)
    if config is None:
        return None  # loading says what is wrong with it
    if "_class_name" in config:
        return f"it is a {config['_class_name']} of diffusers, which transformers does not load"
    named = _class_named(config)
    if named is not None:
        return None if hasattr(transformers, named) else f"transformers has no class {named}"
    if "model_type" not in config:
        return "config.json names neither a class nor a model type"
    if config["model_type"] not in transformers.CONFIG_MAPPING:
        return f"transformers knows no model type {config['model_type']}"
    return None


def _config(folder: Path) -> Mapping[str, Any] | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def _class_named(config: Mapping[str, Any]) -> str | None:
    named = config.get("architectures")
    if not isinstance(named, list) or not named:
        return None
    return str(named[0])


def load_whole(folder: Path, dtype: str = "auto") -> tuple[Any, dict[str, set[str]]]:
    """Load a model; return it, and the names that transformers lacks or does not expect, by its word for them."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = _config(folder) or {}
    kind = getattr(transformers, _class_named(config) or "AutoModel")
    network, reports = kind.from_pretrained(
        folder,
        output_loading_info=True,
        local_files_only=True,
        trust_remote_code=False,
        dtype=dtype,
        variant=_variant(folder, config),
    )
    return network, {key: set(map(str, names)) for key, names in reports.items() if names}


def _variant(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the variant that the weights are called after, which transformers must be told."""
    files = [file.name for file in folder.iterdir()]
    if not any(file.endswith(".safetensors") for file in files):
        return None
    return variant_of(start_of_weights(files, config, str(folder)))


def _whole(kind: str, astray: Mapping[str, set[str]], parents: Sequence[Path]) -> Found:
    """Judge the names that are astray, except names that are astray with all parents, too."""
    if not astray:
        return "loads", "passed", f"{kind} takes every tensor and lacks none"
    theirs = _astray_with_all(parents)
    own = {key: names - theirs.get(key, set()) for key, names in astray.items()}
    if not any(own.values()):
        return "loads", "passed", f"{kind} reports what it reports of all parents, too: {_listed(astray)}"
    return "loads", "failed", f"{kind} reports {_listed({key: names for key, names in own.items() if names})}"


def _astray_with_all(parents: Sequence[Path]) -> Mapping[str, set[str]]:
    """Return the names that are astray with each of the parents; none if any parent cannot be loaded."""
    common: dict[str, set[str]] | None = None
    for parent in parents:
        try:
            _, astray = load_whole(parent)
        except Exception:  # noqa: BLE001  # as above
            return {}
        if common is None:
            common = astray
            continue
        shared = common.keys() & astray.keys()
        common = {key: common[key] & astray[key] for key in shared}
    return common or {}


def _listed(astray: Mapping[str, set[str]]) -> str:
    return "; ".join(f"{key.replace('_', ' ')}: {len(names)}, {min(names)}" for key, names in astray.items())


def _sample(folder: Path, network: Any, parents: Sequence[Path]) -> Found:
    kind = type(network).__name__
    if not network.can_generate():
        return "sample", "skipped", f"{kind} generates no text"
    if network.main_input_name != "input_ids":
        return "sample", "skipped", f"{kind} takes {network.main_input_name}, not text alone"
    try:
        tokenizer = _tokenizer(folder)
    except Exception as error:  # noqa: BLE001  # as above
        return "sample", "skipped", f"no tokenizer: {first_line(error)}"
    try:
        text = _continued(network, tokenizer)
    except FloatingPointError as error:
        return "sample", "failed", str(error)
    except Exception as error:  # noqa: BLE001  # as above
        return _as_parents(f"generating failed: {first_line(error)}", parents)
    return "sample", "passed", f"greedily: {json.dumps(text, ensure_ascii=False)}"


def _as_parents(message: str, parents: Sequence[Path]) -> Found:
    """Judge a model that cannot be asked: if no parent can, the question is wrong and not the model."""
    for parent in parents:
        try:
            _continued(load_whole(parent)[0], _tokenizer(parent))
        except Exception:  # noqa: BLE001  # as above
            continue
        return "sample", "failed", message
    if not parents:
        return "sample", "failed", message
    return "sample", "skipped", f"neither this model nor its parents can be asked by text alone; {message}"


def _tokenizer(folder: Path) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _continued(network: Any, tokenizer: Any) -> str:
    """Continue a text greedily. Raises FloatingPointError for logits that are no numbers."""
    import torch

    given = tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        out = network.generate(
            **given, max_new_tokens=TOKENS, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
    if not all(bool(torch.isfinite(step).all()) for step in out.logits):
        raise FloatingPointError("the logits are not finite")
    return str(tokenizer.decode(out.sequences[0], skip_special_tokens=True))


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
