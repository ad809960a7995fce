"""Secrets stay home: what looks like one, or is known to be one, is masked in whatever is passed on.

Known are the values of variables whose names sound secret, and of those that a site marks (``secret: true``);
whoever reads a file that has some calls :func:`remember`. What nobody told is recognised by its form: in a
URL, behind a name that sounds secret, or by the prefix that a service gives its tokens.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

MASK = "***"
_SHORTEST = 6  # characters of a value that is searched for everywhere
_WORDS = "token|secret|passwords?|passwd|passphrase|credentials?|api[_-]?key|access[_-]?key|private[_-]?key"
_NAME = re.compile(rf"(?i)(?:{_WORDS})s?(?![a-z])|(?:^|_)(?:key|pass|pat|auth)(?:_|$)")
# Values that are no secrets behind a name that sounds so: numbers, flags, references, lists, our own tokens.
_HARMLESS = (
    r"(?![-+.\d]+(?:e-?\d+)?(?![\w.-])|(?:true|false|none|null|yes|no)\b|\d{8}-\d{6}-[0-9a-f]{8}|[$\{\[*(])"
)
_TOLD = re.compile(rf"(?i)--?[a-z0-9_.-]{{0,40}}(?:{_WORDS})s?$")
_PLACEHOLDER = re.compile(r"(?<!\{)\{[^{}]*\}")  # of a command's word, which writes {{ for a brace
_LONG_OPTION = re.compile(r"--[a-z][a-z-]*(?:=|$)")
# A comment of a shell line, which begins a word outside quotes; or what is none, as its group.
_COMMENT = re.compile(r"""('[^']*'|"(?:\\[\s\S]|[^"\\])*"|\\[\s\S]#*|(?<=[^\s;&|()])#)|#[^\n]*""")
# A path, or a reference to something that is said elsewhere.
_ELSEWHERE = re.compile(r"[/~]|\$\(|\$\{\w+:?[-+=?]|(?:\$\w+|\$?\{[\w.-]*\})(?:/|$)")
_NAMED = ("token", "secret", "passw", "passphrase", "credential", "key")


class _Form(NamedTuple):
    """The look of a secret: ``signs`` are texts in small letters one of which stands in whatever matches."""

    signs: tuple[str, ...]
    pattern: re.Pattern[str]
    mask: str = MASK


_FORMS = (
    # scheme://user:password@host and scheme://token@host
    _Form(
        ("://",),
        re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"]{0,99}):[^\s/@'\"]{1,400}@"),
        rf"\1:{MASK}@",
    ),
    _Form(("://",), re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/:@'\"]{16,400}@"), rf"\1{MASK}@"),
    # NAME=value, name: value, "name": "value"
    _Form(
        _NAMED,
        re.compile(
            rf"(?i)(?<![a-z])((?:[a-z0-9]{{1,40}}[_.-]){{0,6}}(?:{_WORDS})s?(?:_id)?)"
            rf"(\\?[\"']?\s{{0,3}}[=:]\s{{0,3}}\\?[\"']?){_HARMLESS}[^\s\"'\\,;&)}}\]]+"
        ),
        rf"\1\2{MASK}",
    ),
    # --name value
    _Form(
        _NAMED,
        re.compile(rf"(?i)(--[a-z-]{{0,40}}(?:{_WORDS})\s){_HARMLESS}[^\s\"'\\-][^\s\"'\\]*"),
        rf"\1{MASK}",
    ),
    _Form(
        ("authorization",),
        re.compile(r"(?i)(\bauthorization\\?[\"']?\s{0,3}[=:]\s{0,3}\\?[\"']?(?:\w{1,20}\s)?)[^\s\"'\\]+"),
        rf"\1{MASK}",
    ),
    _Form(("bearer",), re.compile(r"(?i)(\bbearer\s)[a-z0-9._~+/=-]{16,}"), rf"\1{MASK}"),
    # Prefixes of GitHub's, GitLab's, Hugging Face's, Slack's, OpenAI's, AWS's and Google's; JSON Web Tokens.
    _Form(("gh", "glpat-", "hf_"), re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_)[\w-]{16,}")),
    _Form(("xox", "sk-", "eyj"), re.compile(r"\b(?:xox[abprs]-|sk-|eyJ)[\w-]{16,}(?:\.[\w-]+){0,2}")),
    _Form(("akia", "asia", "aiza"), re.compile(r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[\w-]{30,})")),
    _Form(
        ("private key",),
        re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----END))*"),
        f"{MASK}\n",
    ),
)
_ANY = re.compile("|".join(sorted({re.escape(sign) for form in _FORMS for sign in form.signs})))
_known: set[str] = set()


def sounds_secret(name: str) -> bool:
    """Return whether a variable of this name is taken for a secret.

    >>> [sounds_secret(name) for name in ("WANDB_API_KEY", "HF_TOKEN", "TOKENIZERS_PARALLELISM", "KEYBOARD")]
    [True, True, False, False]
    """
    return _NAME.search(name) is not None


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable is taken for a secret, by its name or by the form of its value."""
    return sounds_secret(name) or _by_form(value) != value


def remember(variables: Mapping[str, str], marked: Iterable[str] = ()) -> None:
    """Have the values of the secrets among these variables, and of the ``marked`` ones, masked."""
    named = set(marked)
    values = {v for k, v in variables.items() if k in named or (is_secret(k, v) and not _common(v))}
    values = {value for value in values if len(value) >= _SHORTEST}
    if not values <= _known:
        _known.update(values)
        _pattern.cache_clear()


def assigned(lines: Iterable[str]) -> dict[str, str]:
    """Return the variables that shell lines assign, with their values.

    >>> assigned(["export HF_TOKEN='a b'; source x", "it's not a line"])
    {'HF_TOKEN': 'a b'}
    """
    secrets = {}
    for line in lines:
        lexer = shlex.shlex(_COMMENT.sub(lambda m: m[1] or "", line), posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        with contextlib.suppress(ValueError):  # an open quote: the line goes on
            for word in lexer:
                name, equals, value = word.partition("=")
                if equals and name.isidentifier():
                    secrets[name] = value
    return secrets


def told(command: Sequence[str]) -> dict[str, str]:
    """Return the options of a command that sound secret, with their values as the command gets them. What
    holds a placeholder is said elsewhere.

    >>> told(["python", "x.py", "--api-key", "abc", "--token", "{env.TOKEN}", "--secret-size", "--fast"])
    {'--api-key': 'abc'}
    """
    pairs = ((name, value) for name, value in itertools.pairwise(command) if _TOLD.match(name))
    values = {k: v for k, v in pairs if not _PLACEHOLDER.search(v) and not _LONG_OPTION.match(v)}
    return {name: value.replace("{{", "{").replace("}}", "}") for name, value in values.items()}


def _common(value: str) -> bool:
    """Return whether a value may stand anywhere by chance: a path, a reference, or a small number."""
    return _ELSEWHERE.match(value) is not None or (value.isdecimal() and len(value) <= _SHORTEST)


def masked(text: str) -> str:
    """Return a text without the secrets that are known or recognised."""
    known = _pattern()
    return _by_form(known.sub(MASK, text) if known is not None else text)


@functools.cache
def _pattern() -> re.Pattern[str] | None:
    """Return what finds the known values, also as commands of a file, a shell and JSON write them."""
    texts = {text for value in _known for text in (value, value.replace("{", "{{").replace("}", "}}"))}
    forms = {form for text in texts for form in (text, shlex.quote(text), json.dumps(text)[1:-1])}
    alternatives = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.compile(alternatives) if alternatives else None


def _by_form(text: str) -> str:
    small = text.lower()
    if not _ANY.search(small):
        return text
    for form in _FORMS:
        if any(sign in small for sign in form.signs):
            text = form.pattern.sub(form.mask, text)
    return text
