"""A second language: English prose through a word-level map that keeps syntax, punctuation and most stems.

Function words get words of their own; content words keep their stem with a regular change of spelling and take the endings
of the new language. What a model knows of stems, word order and punctuation carries over, endings and small words do not.
"""

from __future__ import annotations

import re

import numpy as np

_WORD = re.compile(r"[A-Za-z]+")
_COMMON = re.findall(
    r"[a-z]+",
    "the of and to a in is that for it as with be by on are this from or not an at if which was can will has have when"
    " all but any its no other one may you used such more than into does do only also they their so each same been these"
    " then there some would should must where between how what about after before both because",
)
_ENDINGS = re.findall(
    r"[a-z]+",
    "ations ation ing ings tion tions ments ment ness ly ers er ed es s al able ive ity ous ful less ize e y",
)
_SPELLING = (("ck", "k"), ("ph", "f"), ("th", "d"), ("qu", "kv"), ("sh", "sk"), ("w", "v"), ("x", "ks"), ("c", "k"))
_ONSETS = [*"bdfghjklmnprstvz", "br", "dr", "gr", "kl", "pr", "st", "tr"]
_VOWELS = [*"aeiou", "ai", "ei", "ou"]
_CODAS = ["", "", *"nrslmt"]


class Language:
    """The map of one seed, from English words to words of the second language.

    >>> words = Language(0)
    >>> words.translate("Testing the words.") == words.translate("Testing the words.")
    True
    """

    def __init__(self, seed: int):
        rng = np.random.default_rng([seed, 0x1A])
        taken: set[str] = set()
        self._known = {word: self._invent(rng, taken, 1 + (len(word) > 3)) for word in _COMMON}
        self._endings = {ending: self._invent(rng, taken, 1) for ending in _ENDINGS}
        self._order = sorted(_ENDINGS, key=len, reverse=True)

    @staticmethod
    def _invent(rng: np.random.Generator, taken: set[str], syllables: int) -> str:
        while True:
            parts = ("".join(str(rng.choice(kind)) for kind in (_ONSETS, _VOWELS, _CODAS)) for _ in range(syllables))
            word = "".join(parts)
            if word not in taken:
                taken.add(word)
                return word

    def translate(self, text: str) -> str:
        """Text word for word; whatever is no word stays as it is."""
        return _WORD.sub(lambda match: self._cased(match[0]), text)

    def _cased(self, word: str) -> str:
        new = self._word(word.lower())
        return new.capitalize() if word[0].isupper() else new

    def _word(self, word: str) -> str:
        known = self._known.get(word)
        if known is None:
            ending = next((e for e in self._order if word.endswith(e) and len(word) - len(e) >= 3), "")
            stem = word[: len(word) - len(ending)]
            for old, new in _SPELLING:
                stem = stem.replace(old, new)
            known = self._known[word] = stem + self._endings.get(ending, "")
        return known
