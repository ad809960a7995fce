"""Keys, and what they do to what one looks at. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ddqjobs.cli.watch.board import SHOWN, Screen, View

_OF_ACTIONS = {
    "quit": ("q",),
    "up": ("\x1b[A", "\x1bOA", "k"),
    "down": ("\x1b[B", "\x1bOB", "j"),
    "page up": ("\x1b[5~", "b"),
    "page down": ("\x1b[6~", " "),
    "home": ("\x1b[H", "\x1bOH", "\x1b[1~", "g"),
    "end": ("\x1b[F", "\x1bOF", "\x1b[4~", "G"),
    "filter": ("f",),
    "refresh": ("r",),
    "log": ("\r", "\n"),
    "search": ("/",),
    "retry": ("R",),
    "cancel": ("C",),
    "back": ("\x1b",),
    "erase": ("\x7f", "\x08"),
}
KEYS = {key: action for action, several in _OF_ACTIONS.items() for key in several}
_BY_LENGTH = sorted(KEYS, key=len, reverse=True)
_POSSIBLE = {"retry": "failed", "cancel": "active"}  # what a run must be


class Order(NamedTuple):
    """An order to the loop beside showing: quit, refresh, retry or cancel a run, say something."""

    what: str = ""
    run: str = ""


def keys(text: str) -> list[str]:
    """Return the keys that were typed, one by one. Of a sequence that nobody knows nothing is left: its
    letters must not be taken for keys."""
    typed_keys: list[str] = []
    while text:
        known = next((key for key in _BY_LENGTH if text.startswith(key)), "")
        if text.startswith("\x1b") and len(text) > 1 and known in ("", "\x1b"):
            return typed_keys
        key = known or text[0]
        typed_keys.append(key)
        text = text[len(key) :]
    return typed_keys


def pressed(view: View, key: str, screen: Screen) -> tuple[View, Order]:
    """Return what one looks at after a key, and what else it asks for."""
    action = KEYS.get(key, "")
    if view.question:
        what, run = view.question
        return view._replace(question=None), Order(what, run) if key in ("y", "Y") else Order()
    if view.typing:
        return _typed(view, key, action), Order()
    if action in ("quit", "refresh"):
        return view, Order(action)
    if view.log:
        return (view._replace(log="") if action in ("log", "back") else view), Order()
    if action in ("log", "retry", "cancel"):
        return _about(view, action, screen)
    if action == "search":
        return view._replace(typing=True, search="", top=0, cursor=0), Order()
    if action == "back":
        return view._replace(search="", top=0, cursor=0) if view.search else view, Order()
    return moved(view, action, screen), Order()


def _typed(view: View, key: str, action: str) -> View:
    """Return the view after a key of a search."""
    if action == "log":
        return view._replace(typing=False)
    if action == "back":
        return view._replace(typing=False, search="")
    if action == "erase":
        return view._replace(search=view.search[:-1])
    return view._replace(search=view.search + key, top=0, cursor=0) if key.isprintable() else view


def _about(view: View, action: str, screen: Screen) -> tuple[View, Order]:
    """Return the view after a key that is about the run under the cursor."""
    if screen.run is None:
        return view, Order()
    planned = screen.run.planned
    if action == "log":
        return view._replace(log=planned.run.name), Order()
    wanted = _POSSIBLE[action]
    if planned.status.value != wanted:
        return view, Order(
            "say", f"{action} needs {wanted} runs: {planned.run.name} is {planned.status.value}"
        )
    return view._replace(question=(action, planned.run.name)), Order()


def moved(view: View, action: str, screen: Screen) -> View:
    """Return the view after a movement: rows scroll, and the cursor goes with them to the first and the last
    row."""
    steps = {"up": -1, "down": 1, "page up": -screen.page, "page down": screen.page}
    steps |= {"home": -screen.there, "end": screen.there}
    if action == "filter":
        return view._replace(shown=(view.shown + 1) % len(SHOWN), top=0, cursor=0)
    step = steps.get(action, 0)
    cursor = max(0, min(view.cursor + step, screen.there - 1))
    top = max(0, min(view.top + step, screen.there - screen.page))
    return view._replace(top=min(max(top, cursor - screen.page + 1), cursor), cursor=cursor)
