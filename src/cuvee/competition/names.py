"""Names that people choose: shown as they are, compared by what they look like."""

import re
import unicodedata

from cuvee.competition.refusals import Refusal

LONGEST = 40
LOOKALIKES = str.maketrans(
    # Cyrillic and Greek letters, and digits, that read as Latin letters
    "абвгезийкмнорстухьіјѕԁԛԝαβγεικνορτυχω01|",
    "abbreznnkmhopctyxbijsdqwabyeiknoptuxwoll",
)


def checked_name(text: str) -> str:
    """Return a name fit to be shown, or refuse it: 1 to 40 characters, in one line, nothing that is not seen."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > LONGEST:
        raise Refusal("bad_name", f"a name has 1 to {LONGEST} characters, this has {len(name)}")
    odd = next((c for c in name if unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp")), None)
    if odd is not None:
        raise Refusal("bad_name", f"the name holds the character U+{ord(odd):04X}, which cannot be seen")
    if not re.search(r"\w", name):
        raise Refusal("bad_name", "a name needs a letter or a digit")
    return name


def name_key(name: str) -> str:
    """Return what two names share that look alike: no case, accents, width, spaces or borrowed letters."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    letters = "".join(c for c in plain if not unicodedata.combining(c)).translate(LOOKALIKES)
    return re.sub(r"[\W_]+", "", letters) or letters
