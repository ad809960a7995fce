"""Keys, and what they do to what one looks at. Pure."""

from __future__ import annotations

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
}
KEYS = {key: action for action, several in _OF_ACTIONS.items() for key in several}
_BY_LENGTH = sorted(KEYS, key=len, reverse=True)


def keys(text: str) -> list[str]:
    """The actions that typed text means; what means nothing is left out."""
    found: list[str] = []
    while text:
        known = next((key for key in _BY_LENGTH if text.startswith(key)), "")
        if text.startswith("\x1b") and not known:
            return found  # a key that we do not know, and its letters must not be taken for others
        if known:
            found.append(KEYS[known])
        text = text[len(known) or 1 :]
    return found


def moved(view: View, action: str, screen: Screen) -> View:
    """What one looks at after an action."""
    steps = {"up": -1, "down": 1, "page up": -screen.page, "page down": screen.page}
    steps |= {"home": -screen.there, "end": screen.there}
    if action == "filter":
        return View(shown=(view.shown + 1) % len(SHOWN))
    return view._replace(top=max(0, min(view.top + steps.get(action, 0), screen.there - screen.page)))
