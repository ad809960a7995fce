#!/usr/bin/env bash
# tests/bench/gpu/collect.sh CARRIED: what build_modern.sh needs on a machine without network, for Python 3.12:
# CARRIED/tools (ddqjobs' own packages) and CARRIED/wheels (of `modern`, or of ENVIRONMENT, but for what is large there).
set -euo pipefail
carried=$1 python=${PYTHON:-python3} name=${ENVIRONMENT:-modern}
repository=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../../..")
platforms=()
for tag in 2_28 2_27 2_24 2_17 2_12 2_5; do platforms+=(--platform "manylinux_${tag}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)
get() {  # get FOLDER PACKAGE...: wheels for that machine
  "$python" -m pip download --quiet --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" -d "$@"
}
pin() { grep -oE "^$1==[^ ]+" "$repository/envs/$name/lock.txt"; }

# With what these need; not pandas, which only results and reports use.
get "$carried/tools" uv msgspec "$(grep -oE 'typer[^"]*' "$repository/pyproject.toml")" submitit pyyaml rich jinja2
pins=()
for package in mmdet mmengine mmcv-lite addict terminaltables termcolor yapf platformdirs shapely pycocotools setuptools ninja; do
  if pinned=$(pin "$package"); then pins+=("$pinned"); fi
done
get "$carried/wheels" --no-deps "${pins[@]}"
if mmcv=$(pin mmcv); then  # from source: pip asks its setup.py for the version, which needs setuptools below 81
  constraint=$(mktemp)
  pin setuptools > "$constraint"
  PIP_CONSTRAINT=$constraint "$python" -m pip download --quiet --no-deps --no-binary mmcv -d "$carried/wheels" "$mmcv"
  rm "$constraint"
fi
du -sh "$carried"
