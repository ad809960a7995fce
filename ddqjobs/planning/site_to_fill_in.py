"""The file of a new site that is like a shipped one, with what people have to set as comments. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from ddqjobs.planning import sections
from ddqjobs.schedulers.registry import capabilities
from ddqjobs.spec import flat, keys
from ddqjobs.spec.site import Site

_TEXT = """\
# Your site: anything you omit is inherited from `{base}`, which ships with ddqjobs.
# To set a key below, remove the `# ` before it, and before the line above it to which it belongs. Each shows
# the value that is inherited, or an example. `ddqjobs schema site` prints all keys.
# `ddqjobs site show {name}` prints all values.
# `ddqjobs doctor --site {name}` says what is missing or wrong.
base: {base}
name: {name}
title: my cluster

"""
# Keys of the scheduler's section, as far as it has them, and of the site.
_OF_SCHEDULER = ("partition", "queue", "account", "qos", "label", "gpu_type", "constraint")
_OF_SITE = (
    "cpus_per_gpu", "memory_mb_per_gpu", "limits.time", "limits.array_size", "limits.jobs_in_queue",
    "modules", "setup", "stage_to", "environments", "results",
)  # fmt: skip
_OF_ARRAYS = "limits.array_size"


def text(name: str, base: Site) -> str:
    """Return the file of a site that inherits from another one: valid as it is, and uncommented, too."""
    return _TEXT.format(base=base.name, name=name) + "".join(f"# {line}\n" for line in _lines(base))


def _lines(base: Site) -> Iterator[str]:
    known = {key.path: key for key in keys.of(sections.schema("site"))}
    values = msgspec.to_builtins(base)
    values |= base.sections
    paths = [path for name in _OF_SCHEDULER if (path := f"{base.scheduler}.{name}") in known]
    paths += [path for path in _OF_SITE if path != _OF_ARRAYS or capabilities(base).arrays]
    above = ""
    for path in paths:
        owner, _, name = path.rpartition(".")
        if owner and owner != above:
            yield f"{owner}:"
        above = owner
        indent = "  " if owner else ""
        section = values.get(owner, {}) if owner else values
        first, *rest = _setting(known[path], name, section)
        yield f"{indent}{first}"
        yield from (f"{indent}{line}" for line in rest)


def _setting(key: keys.Key, name: str, section: Mapping[str, object]) -> list[str]:
    """Return a key with what is inherited, or its example, and what it means."""
    inherited = section.get(name)
    lines = flat.lines(flat.plain_entries({name: inherited}), {}) if inherited else [f"{name}: {key.example}"]
    lines[0] += f"  # {'inherited' if inherited else 'example'}. {key.text.rstrip('.')}"
    return lines
