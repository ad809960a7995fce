"""Take the paths of one machine out of texts; what is left says what lay where in the project. Pure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from urllib.parse import quote

# A part of a path; JSON may have its letters as escapes.
_LETTERS, _ESCAPE = r"[\w.+@=%-]", r"\\+u[0-9a-f]{4}"
_PART = rf"(?:{_LETTERS}|{_ESCAPE}){_LETTERS}*(?:{_ESCAPE}{_LETTERS}*)*"
_NEW_LINE = r"(?<=\\[nrt])"  # as JSON has it: what begins behind it is no part of a word
# Absolute paths of two parts and more, but for those that every Linux has. What stands before the first slash
# decides: behind a name, a variable or a quoted variable it is a relative path's.
_ABSOLUTE = re.compile(
    rf"(?:{_NEW_LINE}|(?<![\w/.}}\])*%#~@+$-]))(?<![\w}}]['\"])(?<![\w}}]\\[\"'])"
    rf"/(?!(?:bin|dev|proc|sys)/|usr/bin/env\b){_PART}((?:/{_PART})*/({_PART})/?)"
)
# Where machines keep what is theirs: '/annotations/val.json' in a configuration is no path of one.
_ROOTS = re.compile(
    r"/(?:home|root|users|data\d*|datasets?|scratch\d*|work|mnt|media|srv|projects?|group|lustre|gpfs"
    r"|beegfs|fs\d*|nfs|share\d*|shared|storage|nobackup|local|raid|ssd|hdd|var|opt|tmp|usr|lib\w*)/",
    re.IGNORECASE,
)
ELSEWHERE = "{machine}"


class MachinePaths:
    """Folders of a machine with the words that take their places, and any other absolute path."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._words = {
            form: word for folder, word in folders.items() if len(folder) > 2 for form in _forms(folder)
        }

    def masked(self, text: str, *, written: bool = False) -> str:
        """Return a text without the paths of the machine; one that was ``written`` (code, configurations)
        only without those that begin as a machine's do.

        >>> MachinePaths({"/home/me/ddq": "{project}"}).masked("/home/me/ddq/results and /scratch/me/x.pth")
        '{project}/results and {machine}/x.pth'
        """
        if "/" not in text:
            return text
        if self._known is not None:
            text = self._known.sub(lambda match: self._words[match[0]], text)
        return _ABSOLUTE.sub(lambda match: _shortened(match, written), text)

    @cached_property
    def _known(self) -> re.Pattern[str] | None:
        longest = sorted(self._words, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, longest))
        return (
            re.compile(rf"(?:{_NEW_LINE}|(?<![\w.-]))(?:{alternatives})(?![\w-])") if alternatives else None
        )


def _forms(path: str) -> set[str]:
    """Return the ways in which files have a path: plain, for a shell, in a URL, in JSON and in its texts."""
    plain = {path, path.replace(" ", "\\ "), path.replace("'", "'\"'\"'"), quote(os.fsencode(path))}
    escaped = plain | _in_json(plain)
    return escaped | _in_json(escaped)


def _in_json(forms: Iterable[str]) -> set[str]:
    return {json.dumps(form, ensure_ascii=ascii_)[1:-1] for form in forms for ascii_ in (True, False)}


def _shortened(match: re.Match[str], written: bool) -> str:
    return match[0] if written and not _ROOTS.match(match[0]) else f"{ELSEWHERE}/{match[2]}"
