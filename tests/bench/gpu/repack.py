"""Makes wheels of what an interpreter has installed: for a machine that has torch and no network.

    PYTHON -m tests.bench.gpu.repack OUT --requirements FILE [--have FOLDER]

PYTHON is the interpreter whose packages are wanted. Those that FILE names are packed, and what they need,
except what FOLDER has a file of. Prints one line per wheel. The wheels are not compressed, and not the files
that an index has: a lock of them names their own hashes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_OWN = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json"}


def normal(name: str) -> str:
    """A package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: str) -> list[str]:
    """The packages that a requirements file names."""
    matches = (re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line) for line in requirements.splitlines())
    return [normal(match[0]) for match in matches if match]


def closure(roots: list[str], have: set[str]) -> dict[str, Distribution]:
    """The packages and what they need, as far as it is installed and not had already."""
    from packaging.requirements import Requirement

    distributions: dict[str, Distribution] = {}
    queue = list(roots)
    while queue:
        name = queue.pop()
        if name in distributions or name in have:
            continue
        try:
            distributions[name] = distribution(name)
        except PackageNotFoundError:
            print(f"repack: {name} is not installed", file=sys.stderr)
            continue
        for text in distributions[name].requires or []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                queue.append(normal(need.name))
                # Extras of a package without code, such as cuda-toolkit[cublas]: all that are installed.
                queue += [normal(requirement) for requirement in _of_extras(need.name, need.extras)]
    return distributions


def _of_extras(name: str, extras: set[str]) -> Iterator[str]:
    from packaging.requirements import Requirement

    try:
        texts = distribution(name).requires or [] if extras else []
    except PackageNotFoundError:
        return
    for need in map(Requirement, texts):
        if need.marker is not None and any(need.marker.evaluate({"extra": extra}) for extra in extras):
            yield need.name


def pack(dist: Distribution, out: Path) -> Path:
    """Writes the wheel of an installed package and returns its path."""
    name = re.sub(r"[-_.]+", "_", dist.metadata["Name"])
    base = f"{name}-{dist.version}"
    scripts = {entry.name for entry in dist.entry_points if entry.group.endswith("_scripts")}
    target = out / f"{base}-{_tags(dist.read_text('WHEEL') or '')}.whl"
    record = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        info = ""
        for entry in dist.files or []:
            inside = _inside(entry.as_posix(), base, scripts)
            if inside.endswith(".dist-info/METADATA"):
                info = inside.rpartition("/")[0]
            path = Path(str(entry.locate()))
            if not inside or not path.is_file():  # images are often stripped of files
                continue
            archive.write(path, inside)
            digest = f"{entry.hash.mode}={entry.hash.value}" if entry.hash else _sha256(path)
            record.append(f'"{inside}",{digest},{path.stat().st_size}\n')
        archive.writestr(f"{info}/RECORD", "".join([*record, f"{info}/RECORD,,\n"]))
    return target


def _inside(path: str, base: str, scripts: set[str]) -> str:
    """Return the path in a wheel of an installed file; empty for a file that installation itself makes."""
    parts = path.split("/")
    if parts[-1].endswith(".pyc") or (parts[0].endswith(".dist-info") and parts[-1] in _OWN):
        return ""
    above = parts.count("..")
    if above == 0:
        return path
    rest = parts[above:]  # below the prefix: site-packages lies three folders below it
    if rest[0] != "bin":
        return "/".join([f"{base}.data", "data", *rest])
    return "" if rest[-1] in scripts else "/".join([f"{base}.data", "scripts", *rest[1:]])


def _tags(wheel: str) -> str:
    """The compressed tag set of a file name (PEP 425) from the tags in WHEEL."""
    tags = [
        line.partition(":")[2].strip().split("-") for line in wheel.splitlines() if line.startswith("Tag:")
    ]
    return "-".join(".".join(dict.fromkeys(column)) for column in zip(*tags)) or "py3-none-any"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(prog="tests.bench.gpu.repack")
    parser.add_argument("out", type=Path)
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--have", type=Path, help="a folder with wheels and source archives")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    had = [path.name for path in args.have.iterdir()] if args.have else []
    have = {normal(re.split(r"-\d", name)[0]) for name in had}
    distributions = closure(names(args.requirements.read_text()), have)
    with ThreadPoolExecutor(8) as pool:  # zlib's checksum and the disk work while others wait
        for path in pool.map(lambda dist: pack(dist, args.out), distributions.values()):
            print(f"{path.stat().st_size / 2**20:8.1f} MiB  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
