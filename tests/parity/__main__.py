"""The full comparison with mergekit: `make parity`, or `python -m parity` with `tests` on the path."""

import argparse
import sys
import tempfile
from pathlib import Path

from parity.environment import interpreter
from parity.models import write_models
from parity.recipes import DRAWN, case
from parity.run import ask_mergekit
from parity.table import as_markdown, rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="parity", description=__doc__)
    parser.add_argument("--recipes", type=int, default=20, help="random recipes of each method and number type")
    parser.add_argument("keys", nargs="*", default=list(DRAWN), help="methods; all if none is named")
    asked = parser.parse_args()
    python = interpreter()
    with tempfile.TemporaryDirectory(prefix="cuvee-parity-") as made:
        folder = Path(made)
        write_models(folder / "models")
        cases = [
            case(key, loaded, number, folder / "models")
            for key in asked.keys
            for loaded in ("fp32", "bf16")
            for number in range(asked.recipes)
        ]
        print(f"mergekit merges {len(cases)} recipes, each twice", file=sys.stderr)
        answers = ask_mergekit(python, folder / "mergekit", cases)
        print("Cuvée merges them", file=sys.stderr)
        found = rows(cases, answers, folder / "cuvee")
    print(as_markdown(found))
    return int(not all(row.holds for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
