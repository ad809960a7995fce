"""Takes names out of what is to be passed on, and leaves its shape: each letter becomes an ``x``, each digit
a ``0``, so that columns stay where they are. Pure.

Better too much than too little: of a row about jobs only what is known to be no name stays.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

# Paths of users, mail and network addresses. Repetitions are bounded: what is masked may be of any length.
_PRIVATE = re.compile(
    r"(?<![\w/.])~?/(?!(?:bin|dev|etc|opt|proc|tmp|usr|var)/)[\w.+@=,%-]+(?:/[\w.+@=,%-]*)+"
    r"|[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,9}"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b"
)
_OPAQUE = re.compile(r"[A-Za-z0-9+_=-]{32,}")  # with letters and digits: an access token
_LONG = 4  # a name of so many characters is not part of another word by chance
_OURS = re.compile(r"\S*\d{8}-\d{6}-[0-9a-f]{8}")  # a job's name that ends with a submission's token
_SHOUTED = re.compile(r"[A-Z][A-Z_]{2,}")  # columns and states


def masked(text: str, names: Iterable[str]) -> str:
    """A text without these names and whatever else is private by its form."""
    for name in sorted({name for name in names if name}, key=len, reverse=True):
        whole = (
            re.escape(name) if len(name) >= _LONG else rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"
        )
        text = re.sub(whole, lambda match: shape(match[0]), text)
    text = _PRIVATE.sub(lambda match: shape(match[0]), text)
    return _OPAQUE.sub(lambda match: shape(match[0]) if _mixed(match[0]) else match[0], text)


def masked_row(line: str, names: Iterable[str], known: Collection[str]) -> str:
    """A row about jobs, or a line of a key and a value: numbers, words in capitals, our own jobs' names and
    ``known`` words stay."""
    return re.sub(r"\S+", lambda match: _word(match[0], known), masked(line, names))


def shape(text: str) -> str:
    """Letters as ``x``, digits as ``0``, all else as it is.

    >>> shape("root.hpc2.alice")
    'xxxx.xxx0.xxxxx'
    """
    return re.sub(r"\d", "0", re.sub(r"[^\W\d_]", "x", text))


def _mixed(word: str) -> bool:
    return any(c.isdigit() for c in word) and any(c.isalpha() for c in word)


def _word(word: str, known: Collection[str]) -> str:
    if word in known or _OURS.fullmatch(word) or _SHOUTED.fullmatch(word):
        return word
    if not re.search(r"[^\W\d_]", word):  # no letter
        return word
    return re.sub(r"[^\W_]+", lambda match: match[0] if match[0] in known else shape(match[0]), word)
