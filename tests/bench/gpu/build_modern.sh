#!/usr/bin/env bash
# tests/bench/gpu/build_modern.sh CARRIED [OUT]: builds the environment `modern` on a machine with a GPU, nvcc
# and no network, verifies it, and trains two iterations of DDQ DETR-4scale in it. About 7 minutes on 16 cores.
# ENVIRONMENT=modern-lite builds that one, which needs no nvcc, with the Python of PYTHON.
#
# CARRIED is a folder made by tests/bench/gpu/collect.sh on a machine with an index. torch and what else is too
# large to carry is packed from the machine's own python3, and the lock is made anew there, from the same
# requirements. OUT gets laps.txt, ready.json, training.json, the lock and the logs.
set -euo pipefail
carried=$(realpath "$1") out=$(realpath -m "${2:-build-modern}")
repository=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../../..")
work=${WORK:-/tmp/build-modern} name=${ENVIRONMENT:-modern} python=${PYTHON:-python3}
mkdir -p "$out" "$work"
cd "$repository"

began=$(date +%s) last=$began
lap() {  # lap WHAT: seconds since the last one
  local now; now=$(date +%s)
  printf '%-28s %4d s (at %d s)\n' "$1" $((now - last)) $((now - began)) | tee -a "$out/laps.txt"
  last=$now
}
: > "$out/laps.txt"
trap 'tar -C "$work/project/.environments" -czf "$out/logs.tar.gz" .logs 2> /dev/null || true' EXIT

if [ -z "${CUDA_HOME:-}" ]; then  # torch looks for it beside nvcc, which may be a script elsewhere
  for folder in /usr/local/cuda /usr/local/cuda-*; do
    [ -x "$folder/bin/nvcc" ] && export CUDA_HOME=$folder
  done
fi
export OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INDEX=1
"$python" -m pip install --quiet --no-deps --no-compile --target "$work/site" "$carried"/tools/*.whl
export PYTHONPATH=$repository:$work/site
lap "ddqjobs installed"

environment=$repository/envs/$name
"$python" -m tests.bench.gpu.repack "$work/wheels" --requirements "$environment/lock.txt" --have "$carried/wheels"
lap "installed packages packed"

project=$work/project
mkdir -p "$project/envs/$name" "$project/experiments"
cp "$environment"/* "$project/envs/$name/"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
sed -i -E "s/^python: .*/python: \"$version\"/" "$project/envs/$name/env.yaml"
# The versions that this machine has of what is not carried.
for wheel in "$work"/wheels/*.whl; do
  file=${wheel##*/} package=${file%%-*} rest=${file#*-}
  sed -i -E "s/^${package//_/[-_.]}==.*/${package//_/-}==${rest%%-*}/I" "$project/envs/$name/requirements.txt"
done
diff "$environment/requirements.txt" "$project/envs/$name/requirements.txt" || true
export UV_NO_INDEX=1 UV_OFFLINE=1 UV_FIND_LINKS=$carried/wheels,$work/wheels
: > "$project/envs/$name/lock.txt"  # the shipped one would be found otherwise
"$python" -m ddqjobs env lock "$name" -C "$project"
cp "$project/envs/$name/lock.txt" "$out/lock.txt"
lap "locked"
"$python" -m ddqjobs env build "$name" -C "$project"
lap "built and verified"

built=$(find "$project/.environments" -maxdepth 1 -name "$name-*" -type l)
unset PYTHONPATH
PYTHONPATH=$repository "$built/bin/python" -m tests.bench.gpu.two_iterations "$work/training" \
  ${OPTIONS:+"$OPTIONS"} > "$out/training.json"
lap "two iterations"

cp "$built/ready.json" "$out/"
find "$built/" -name '_ext*.so' -exec ls -l {} +
cat "$out/training.json"
echo "total $(($(date +%s) - began)) s"
