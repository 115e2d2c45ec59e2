"""The older keys of a rotary embedding change nothing for transformers, and say the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from cuvee.errors import CheckpointError
from cuvee.export.older_rope import older_rope_keys, write_older_rope

transformers = pytest.importorskip("transformers")

ROTATIONS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 5000.0},
    "linear": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0},
    "llama3": {
        "rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 64},
}  # fmt: skip


@pytest.mark.parametrize("name", ROTATIONS)
@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Mistral"])
def test_transformers_reads_the_same_with_and_without_them(tmp_path: Path, family: str, name: str):
    config = getattr(transformers, f"{family}Config")(rope_parameters=ROTATIONS[name])
    config.save_pretrained(tmp_path)
    before = transformers.AutoConfig.from_pretrained(tmp_path).rope_parameters
    keys = write_older_rope(tmp_path)
    after = transformers.AutoConfig.from_pretrained(tmp_path).rope_parameters
    assert {key: value for key, value in after.items() if key != "type"} == before
    assert keys["rope_theta"] == 5000.0
    assert ("rope_scaling" in keys) == (name != "default")
    assert write_older_rope(tmp_path) == keys  # once more changes nothing


def test_what_they_cannot_say_is_refused(tmp_path: Path):
    local = {"full_attention": ROTATIONS["default"], "sliding_attention": ROTATIONS["default"]}
    with pytest.raises(CheckpointError, match="kinds of layers have rotary embeddings of their own"):
        older_rope_keys({"rope_parameters": local}, "m")
    with pytest.raises(CheckpointError, match="no 'rope_parameters'"):
        older_rope_keys({"rope_theta": 1.0}, "m")
    config = {"rope_theta": 1.0, "rope_parameters": ROTATIONS["default"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"'rope_theta' is 1\.0, and 'rope_parameters' say 5000\.0"):
        write_older_rope(tmp_path)
