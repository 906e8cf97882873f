"""Plain text of any length with sentences planted in it that only a reader can know."""

import random
from dataclasses import dataclass


def _words(text: str) -> list[str]:
    return text.split()


WHO = _words("miller weaver farmer sailor baker mason tailor potter joiner brewer carter fisher")
HOW = _words("quiet tired clever honest patient careful cheerful stubborn gentle lonely")
DOES = _words("carries mends paints sells follows counts borrows forgets cleans hides")
WHAT = _words("lantern basket ladder kettle wagon mirror saddle barrel blanket compass")
MADE = _words("copper wooden broken narrow heavy yellow folded empty polished rusty")
WHERE = _words("orchard harbour market bridge chapel meadow cellar quarry garden station")


@dataclass(frozen=True)
class Needle:
    """sentence: begins with opening, which occurs nowhere else; code: the word nobody can guess."""

    opening: str
    code: str

    @property
    def sentence(self) -> str:
        return f"{self.opening} is {self.code}."


def needle(name: str, rng: random.Random) -> Needle:
    return Needle(f"The number of the {name} mill", f"{rng.choice(MADE)}-{rng.randint(1000, 9999)}")


def sentences(count: int, rng: random.Random) -> list[str]:
    """No two alike in a row, no figure in them."""
    pick = rng.choice
    return [
        f"The {pick(HOW)} {pick(WHO)} {pick(DOES)} the {pick(MADE)} {pick(WHAT)} "
        f"near the {pick(WHERE)}."
        for _ in range(count)
    ]


def plant(hay: list[str], planted: dict[float, Needle]) -> str:
    """The text with each needle after that fraction (0 to 1) of the hay."""
    text = list(hay)
    for at, one in sorted(planted.items(), reverse=True):
        text.insert(round(at * len(hay)), one.sentence)
    return " ".join(text)


def question(needles: list[Needle]) -> str:
    asked = " and the one that begins with ".join(f'"{one.opening}"' for one in needles)
    return f"Repeat, word for word, the sentence above that begins with {asked}."
