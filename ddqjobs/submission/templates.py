"""The templates of job scripts, filled in a sandbox. The only importer of jinja2 for scripts.

A project may bring templates of its own, and may be somebody else's: a template writes text, but calls
nothing of Python's, changes nothing that it is given, and reads no file but regular ones of a sensible size.
"""

from __future__ import annotations

import os
import stat
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound, TemplateSyntaxError
from jinja2.exceptions import SecurityError
from jinja2.loaders import split_template_path
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ddqjobs.base import shell_variables
from ddqjobs.base.errors import InputError, Problem
from ddqjobs.detect.job import exit_codes
from ddqjobs.submission.words import quote

_LIMIT = 1 << 20  # bytes of a template
_REPEATED = 10_000  # characters or elements that a template may make by * or **


class _Sandbox(ImmutableSandboxedEnvironment):
    """Refuses, besides what the base refuses, products and powers that would fill the memory."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Return the product of two numbers. Raise SecurityError for anything larger."""
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if not numbers or abs(left) > _REPEATED**2 or abs(right) > (8 if operator == "**" else _REPEATED**2):
            raise SecurityError(f"{operator} takes numbers of a sensible size")
        return super().call_binop(context, operator, left, right)


class _Loader(BaseLoader):
    """Finds a template in the first folder that has it."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """Return text and path. Raise TemplateNotFound, InputError or OSError."""
        del environment
        parts = split_template_path(template)
        for root in self._roots:
            path = root.joinpath(*parts)
            if path.exists():
                return _text(path), str(path), lambda: True
        raise TemplateNotFound(template)


def environment(roots: Sequence[Path]) -> Environment:
    """Return what fills the templates below these folders; the first that has one wins."""
    jinja = _Sandbox(
        auto_reload=False,
        loader=_Loader(roots),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters["q"] = quote
    jinja.globals["exits"] = {name: code for name, code in vars(exit_codes).items() if name.isupper()}
    jinja.globals["unset_shell"] = shell_variables.unset_shell()
    jinja.globals["unset_site"] = shell_variables.unset_site()
    return jinja


def fill(jinja: Environment, names: Sequence[str], values: Mapping[str, object]) -> str:
    """Return the first of these templates that exists, filled. What goes wrong in one is an InputError with
    its place: it is its owner's to mend."""
    try:
        return jinja.get_or_select_template(list(names)).render(**values)
    except InputError:
        raise
    except TemplateSyntaxError as error:
        where = error.filename or error.name or names[0]
        raise InputError([Problem(where, error.lineno, error.message or "syntax error")]) from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        places = [(f.filename, f.lineno or 0) for f in frames if f.filename.endswith(".j2")]
        if not places and not isinstance(error, TemplateNotFound | OSError | UnicodeDecodeError):
            raise
        file, line = places[-1] if places else (names[0], 0)
        missing = isinstance(error, TemplateNotFound)
        message = f"there is no template {error}" if missing else f"{error}"
        raise InputError([Problem(file, line, message)]) from error


def _text(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        at = os.fstat(descriptor)
        if not stat.S_ISREG(at.st_mode):
            raise InputError(f"{path}: not a regular file")
        if at.st_size > _LIMIT:
            raise InputError(f"{path}: {at.st_size} bytes; a template has at most {_LIMIT}")
        return file.read(_LIMIT).decode("utf-8")
