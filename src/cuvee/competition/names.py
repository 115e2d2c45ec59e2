"""Names that people choose: shown as they are, compared by what they look like."""

import re
import unicodedata
from functools import cache
from importlib import resources

from cuvee.competition.refusals import Refusal

LONGEST = 40
LONGEST_KEY = 190
LOOKALIKES = str.maketrans(
    # small Cyrillic and Greek letters that read as Latin ones, beside those of Unicode's table
    "абвгезийкмнорстухьіјѕԁԛԝαβγεικνορτυχω",
    "abbreznnkmhopctyxbijsdqwabyeiknoptuxw",
)
LIKE_EACH_OTHER = str.maketrans("i1|0", "lllo")
RESERVED = (
    "admin",
    "administrator",
    "cuvee",
    "host",
    "judge",
    "jury",
    "moderator",
    "official",
    "organisation",
    "organiser",
    "organisers",
    "organization",
    "organizer",
    "organizers",
    "root",
    "server",
    "staff",
    "support",
    "sysadmin",
    "system",
    "webmaster",
)
"""Words of those who run a competition. No team may take one into its name."""


def _is_unseen(character: str) -> bool:
    """Say whether a character cannot be seen: it controls, or it breaks a line."""
    category = unicodedata.category(character)
    return category.startswith("C") or category in ("Zl", "Zp")


def checked_name(text: str) -> str:
    """Return a name fit to be shown, or refuse it: 1 to 40 characters, in one line, nothing that is not seen."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > LONGEST:
        raise Refusal("bad_name", f"a name has 1 to {LONGEST} characters, this has {len(name)}")
    odd = next(filter(_is_unseen, name), None)
    if odd is not None:
        raise Refusal("bad_name", f"the name holds the character U+{ord(odd):04X}, which cannot be seen")
    if not re.search(r"\w", name):
        raise Refusal("bad_name", "a name needs a letter or a digit")
    return name


def check_not_reserved(name: str) -> None:
    """Refuse a name that looks like one of the organiser's."""
    words = re.split(r"[\W_]+", unicodedata.normalize("NFKC", name))
    keys = {name_key(text) for text in (name, *words) if text}
    for reserved in RESERVED:
        if name_key(reserved) in keys:
            raise Refusal(
                "bad_name", f"'{reserved}' is a word of those who run the competition", hint="take another name"
            )


def name_key(name: str) -> str:
    """Return what two names share that look alike: no case, accents, width, spaces or borrowed letters.

    Letters are looked up before their case is folded, too: a Greek capital Upsilon looks like Y, a small one like u.
    """
    table = _confusables()
    letters = _without_accents(name).translate(table)
    folded = _without_accents(letters.casefold()).translate(table).casefold()
    alike = folded.translate(LOOKALIKES).translate(LIKE_EACH_OTHER).replace("rn", "m").replace("vv", "w")
    return (re.sub(r"[\W_]+", "", alike) or alike)[:LONGEST_KEY]


def _without_accents(text: str) -> str:
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text))
    return "".join(c for c in plain if not unicodedata.combining(c))


@cache
def _confusables() -> dict[int, str]:
    """Read the table of characters that look like Latin letters and digits: their code points -> the letters.

    A letter that is not in it looks like its other case.
    """
    text = (resources.files("cuvee.competition") / "confusables.txt").read_text(encoding="utf-8")
    listed: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            latin, characters = line.split(" ", 1)
            listed.update(dict.fromkeys(characters, latin))
    other_cases = {character.swapcase(): latin for character, latin in listed.items()}
    table = {**other_cases, **listed}
    return {ord(character): latin for character, latin in table.items() if len(character) == 1}
