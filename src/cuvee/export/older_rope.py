"""The older keys of a rotary embedding, `rope_theta` and `rope_scaling`, beside `rope_parameters` in a config.json.

transformers 5 writes `rope_parameters` alone, and reads the same out of both. Programs that know only the older keys,
such as most models of mlx-lm, take their own default for a key that they do not find, and compute another model.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cuvee.checkpoint.write import write_error
from cuvee.documents.whole import write_whole
from cuvee.errors import CheckpointError

_CONFIG = "config.json"


def older_rope_keys(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the older keys that say what a config's `rope_parameters` say.

    Raises CheckpointError for a config without any, and for one whose kinds of layers differ, which they cannot say.
    """
    written = config.get("rope_parameters")
    if not isinstance(written, Mapping) or not written:
        hint = "a config with 'rope_theta' and 'rope_scaling' has the older keys already"
        raise CheckpointError("the config has no 'rope_parameters'", where=where, hint=hint)
    if any(isinstance(value, Mapping) for value in written.values()):
        message = "its kinds of layers have rotary embeddings of their own, which the older keys cannot say"
        raise CheckpointError(message, where=where)
    keys: dict[str, Any] = {}
    for key in ("rope_theta", "partial_rotary_factor"):
        if written.get(key) is not None:
            keys[key] = written[key]
    kind = written.get("rope_type", "default")
    if kind != "default":
        scaling = {key: value for key, value in written.items() if key not in keys}
        keys["rope_scaling"] = {**scaling, "type": kind}
    return keys


def write_older_rope(folder: Path) -> dict[str, Any]:
    """Add the older keys to a folder's config.json, in one step, and return them. Raises CheckpointError."""
    file = folder / _CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read the config: {error}", where=str(file)) from error
    if not isinstance(config, dict):
        raise CheckpointError("expected a JSON object", where=str(file))
    keys = older_rope_keys(config, str(file))
    for key, value in keys.items():
        if config.get(key) not in (None, value):
            message = f"'{key}' is {config[key]!r}, and 'rope_parameters' say {value!r}"
            raise CheckpointError(message, where=str(file), hint="take out the one that is wrong")
    try:
        write_whole(file, json.dumps({**config, **keys}, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise write_error(error, file) from error
    return keys
