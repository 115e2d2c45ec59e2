"""The defaults of config classes are those of the transformers that they name."""

import json
import re
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers")

import config_defaults  # noqa: E402  # after the skip

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
WRITTEN = json.loads(config_defaults.FILE.read_text(encoding="utf-8"))


def test_the_file_is_what_the_script_writes() -> None:
    if f"transformers {transformers.__version__}," not in WRITTEN[""]["source"]:
        pytest.skip(f"the file is of another version: {WRITTEN['']['source']}")
    assert config_defaults.FILE.read_text(encoding="utf-8") == config_defaults.written(config_defaults.lines())


def test_the_file_is_of_the_pinned_release() -> None:
    pin = re.search(r"^transformers==(.+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert pin is not None
    assert f"transformers {pin[1]}," in WRITTEN[""]["source"]


def test_a_line_says_settings_parts_and_other_names() -> None:
    assert WRITTEN["gemma3"]["parts"] == {"text_config": "gemma3_text", "vision_config": "siglip_vision_model"}
    assert WRITTEN["gpt2"]["settings"]["activation_function"] == "gelu_new"
    assert WRITTEN["t5"]["names"] == {"num_attention_heads": "num_heads", "head_dim": "d_kv"}
    assert "hidden_size" not in WRITTEN["llama"]["settings"]
