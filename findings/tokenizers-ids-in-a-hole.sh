#!/bin/sh
# A tokenizer with a hole in its ids gives a new token the id of an old one.
#
# Versions:  tokenizers 0.23.3 (36 MB installed)
# Expected:  add_tokens documents that tokens are added if they are not in the vocabulary yet: each with an id of its own.
#            A tokenizer.json names the id of each added token, so that loading it should give that id.
# Observed:  New ids are counted from the number of entries, not from the largest id. Where ids are left out (rows that
#            were cut away, reserved places), the new token gets an id that is in use: two texts have one row of the
#            embedding, and decoding gives the newer. Ids in the file's `added_tokens` are not looked at: 10 becomes 3.
# Instead:   Fill the holes in `model.vocab` with names for unused places before adding, and write added tokens into
#            `model.vocab` too, where the ids count. Compare `token_to_id` with the file after loading.
#
# Seen:
#   vocabulary:                  {'[UNK]': 0, 'cat': 1, 'dog': 3}
#   after add_tokens(['bird']):  {'[UNK]': 0, 'bird': 3, 'cat': 1, 'dog': 3}
#   'dog' is encoded as [3], and [3] decoded as 'bird'
#   the file says 10 for <tool>, the loaded tokenizer 3
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tokenizers==0.23.3
"$work/venv/bin/python" - <<'PY'
import json

from tokenizers import Tokenizer, models

vocabulary = {"[UNK]": 0, "cat": 1, "dog": 3}
tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
text = tokenizer.to_str()
tokenizer.add_tokens(["bird"])
ids = dict(sorted(tokenizer.get_vocab().items()))
dog = tokenizer.encode("dog").ids
print("vocabulary:                 ", vocabulary)
print("after add_tokens(['bird']): ", ids)
print(f"'dog' is encoded as {dog}, and {dog} decoded as {tokenizer.decode(dog)!r}")

content = json.loads(text)
flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
content["added_tokens"] = [{"id": 10, "content": "<tool>", "special": True, **flags}]
loaded = Tokenizer.from_str(json.dumps(content)).token_to_id("<tool>")
print("the file says 10 for <tool>, the loaded tokenizer", loaded)
if len(set(ids.values())) == len(ids):
    raise SystemExit("changed: the new token has an id of its own")
if loaded == 10:
    raise SystemExit("changed: the id in the file is kept")
PY
