"""Kinds of adapters, and options of LoRA, that have no exact change of the weights: why, and what to do instead."""

from collections.abc import Mapping

_PROMPT = "it puts learnt vectors before the text and changes no weight: load it with PEFT"
_MERGE = "merge it with PEFT's merge_and_unload, then use the model"

REFUSED: Mapping[str, str] = {
    "PROMPT_TUNING": _PROMPT,
    "MULTITASK_PROMPT_TUNING": _PROMPT,
    "P_TUNING": _PROMPT,
    "CPT": _PROMPT,
    "PREFIX_TUNING": "it puts learnt keys and values before those of the text: load it with PEFT",
    "CARTRIDGE": "it puts learnt keys and values before those of the text: load it with PEFT",
    "ADAPTION_PROMPT": "it adds attention over learnt vectors, gated by layer: load it with PEFT",
    "XLORA": "it mixes adapters anew for each token: load it with PEFT, or combine its adapters",
    "POLY": "its mixture depends on the task of each input: load it with PEFT",
    "LILY": "it mixes its factors anew for each input: load it with PEFT",
    "SHADOW": "it runs a small model beside the base: load it with PEFT",
    "PSOFT": f"the signs of its directions come from one library's decomposition of the base: {_MERGE}",
    "ADAMSS": f"its subspaces come from a clustering of the base when it is loaded: {_MERGE}",
}

SWITCHES: Mapping[str, str] = {
    "arrow_config": "Arrow routes each token to other adapters",
    "alora_invocation_tokens": "it is active only after certain tokens (aLoRA)",
    "megatron_config": "its layers are Megatron's",
}
"""Keys of LoRA's configs that, if set, make it something else than a change of matrices."""

LOST_STARTS: Mapping[str, str] = {
    "pissa_niter": "PiSSA with iterations draws at random what it takes out of the base",
    "corda": "CorDA takes directions out of the base that only its training data tell",
    "loftq": "LoftQ quantises the base anew when it is loaded",
    "lora_ga": "LoRA-GA takes a product out of the base that only its training data tell",
}
"""Beginnings of `init_lora_weights` that take something out of the base which neither base nor adapter tells."""
