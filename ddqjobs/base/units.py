"""Durations, sizes and numbers of things as people write them."""

from __future__ import annotations

import re

LOGIN_MEMORY = "2GiB"  # what one process takes where users log in, unless more is asked for
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST_S = 10 * 366 * 86400
_LARGEST_MB = 10**12
_MEGABYTES = {"MB": 1, "GB": 1000, "TB": 1_000_000, "MiB": 1.048576, "GiB": 1073.741824}


def seconds(text: str) -> int:
    """``"90s"``, ``"45m"``, ``"24h"``, ``"2d"``, ``"1h30m"`` as seconds. Raises ValueError otherwise."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"'{text}' is not a valid duration; use 90s, 45m, 24h, 2d or 1h30m")
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if total > _LONGEST_S:
        raise ValueError("longer than ten years; write 90s, 45m, 24h, 2d or 1h30m")
    return round(total)


def megabytes(text: str) -> int:
    """``"300GB"``, ``"16GiB"``, ``"500MB"`` as megabytes (10^6 bytes). Raises ValueError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB|MiB|GiB)", text)
    if not match:
        raise ValueError(f"'{text}' is not a valid size; use 500MB, 300GB or 16GiB")
    size = float(match[1]) * _MEGABYTES[match[2]]
    if size > _LARGEST_MB:
        raise ValueError("more than a million TB; write 500MB, 300GB or 16GiB")
    return round(size)


def counted(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``, ``0 runs``."""
    return f"{number} {noun}" + "s" * (number != 1)


def size(count: float) -> str:
    """Bytes as people read them: ``0 B``, ``512 B``, ``1.5 kB``, ``38 MB``, ``1.25 TB`` (powers of ten)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.3g} TB" if count < 1000 else f"{count:.0f} TB"


def clock(seconds_: float) -> str:
    """Seconds as people read them: ``45s``, ``12m05s``, ``3h07m``, ``2d04h``."""
    total = max(0, round(seconds_))
    days, hours, minutes, rest = total // 86400, total // 3600 % 24, total // 60 % 60, total % 60
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
