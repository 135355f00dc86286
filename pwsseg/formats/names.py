"""Class names as other data sets write them, and the ids that they have here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pwsseg.values import FLARE23, LabelSet, SettingsError

OTHER_SPELLINGS = {
    2: ("RK", "rkid", "kidney r"),
    5: ("arota",),
    6: ("IVC", "postcava", "inferior vena cava IVC"),
    7: ("RAG", "right adrenal", "right suprarenal gland", "right adrenal gland RAG"),
    8: ("LAG", "left adrenal", "left suprarenal gland", "left adrenal gland LAG"),
    9: ("gall bladder",),
    10: ("oesophagus",),
    13: ("LK", "lkid", "kidney l"),
    14: ("tumour", "tumors", "tumours", "cancer"),
}
"""Beside our own names: BTCV's, AMOS's (`arota` is theirs), TotalSegmentator's, FLARE's, MSD's.

No FLARE code that means something else elsewhere: PA is the pulmonary artery, too. A name that is refused
costs a --map; one that is taken wrongly costs labels.
"""


def class_named(name: str, label_set: LabelSet = FLARE23) -> int | None:
    """The id of a class by its name in any usual spelling and order of words; None when there is none."""
    for one in label_set.classes:
        if _words(name) in {_words(s) for s in (one.name, *OTHER_SPELLINGS.get(one.id, ()))}:
            return one.id
    return None


def _words(name: str) -> tuple[str, ...]:
    """Words in one order, so that kidney_right and "Right kidney" are alike."""
    return tuple(sorted(re.findall(r"[a-z0-9]+", name.lower())))


def parse_classes(text: str, label_set: LabelSet = FLARE23) -> frozenset[int]:
    """Ids or names between commas, as `1,14` or `liver,tumor`; SettingsError for another."""
    return frozenset(_class(word.strip(), label_set) for word in text.split(","))


def parse_meanings(text: str, label_set: LabelSet = FLARE23) -> Mapping[str, int]:
    """`old=new,...`: a name or value of another data set, and the id or name of ours that it means.

    0 means background, that is none of our classes. SettingsError when it is written otherwise.
    """
    meanings: dict[str, int] = {}
    for pair in text.split(","):
        old, equals, new = (part.strip() for part in pair.rpartition("="))
        if not equals or not old or old in meanings:
            raise SettingsError(
                f"--map says {pair.strip()!r}, expected old=new once for each old name, as "
                f"'bladder=0,cancer=14'; correct it"
            )
        meanings[old] = 0 if new == "0" else _class(new, label_set)
    return meanings


def _class(word: str, label_set: LabelSet) -> int:
    named = {str(i): i for i in label_set.ids}.get(word) or class_named(word, label_set)
    if named is None:
        ours = ", ".join(f"{c.id} {c.name}" for c in label_set.classes)
        raise SettingsError(f"{word!r} is no class of {label_set.name}; give ids or names of {ours}")
    return named
