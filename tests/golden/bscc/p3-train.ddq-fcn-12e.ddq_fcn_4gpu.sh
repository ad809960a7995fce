#!/usr/bin/env bash
#DSUB -n ddq.p3-train.ddq-fcn-12e.ddq_fcn_4gpu.20260101-000000-0badcafe
#DSUB -A root.bingxing2.alice
#DSUB -q root.default
#DSUB -l wuhanG5500
#DSUB --job_type cosched
#DSUB -R 'cpu=24;gpu=4;mem=150000'
#DSUB -N 1
#DSUB -T 691200
#DSUB -e /data/results/ddq/submissions/20260101-000000-0badcafe/out/%J.out
#DSUB -o /data/results/ddq/submissions/20260101-000000-0badcafe/out/%J.out
# p3-train.ddq-fcn-12e.ddq_fcn_4gpu
# Written by ddqjobs for site bscc; submission 20260101-000000-0badcafe. One element per start.
# What the task gets and leaves: docs/reference/job-contract.md.
set -uo pipefail
# Of the submitting shell nothing steers an interpreter, a loader or a process group (docs/reference/job-contract.md).
unset -v "${!PYTHON@}" __PYVENV_LAUNCHER__ EBPYTHONPREFIXES "${!VIRTUAL_ENV@}" "${!CONDA_@}" "${!_CONDA_@}"
unset -v _CE_CONDA _CE_M "${!MAMBA_@}" "${!MICROMAMBA_@}" "${!PYENV_@}" "${!PIPENV_@}" "${!PIXI_@}" UV_PYTHON
unset -v UV_PROJECT UV_PROJECT_ENVIRONMENT UV_SYSTEM_PYTHON UV_WORKING_DIRECTORY RANK LOCAL_RANK GROUP_RANK
unset -v ROLE_RANK ROLE_NAME NODE_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_WORLD_SIZE ROLE_WORLD_SIZE
unset -v MASTER_ADDR MASTER_PORT NNODES NPROC_PER_NODE "${!TORCHELASTIC_@}" "${!PET_@}" NCCL_COMM_ID
unset -v "${!OMPI_COMM_WORLD_@}" OMPI_UNIVERSE_SIZE "${!PMI_@}" "${!PMIX_@}" MPI_LOCALRANKID MPI_LOCALNRANKS
unset -v "${!MV2_COMM_WORLD_@}" "${!LD_@}" GLIBC_TUNABLES GCONV_PATH LOCPATH "${!MALLOC_@}"
unset -v "${!APPTAINERENV_@}" "${!SINGULARITYENV_@}" CUDA_INJECTION32_PATH CUDA_INJECTION64_PATH
unset -v NVTX_INJECTION32_PATH NVTX_INJECTION64_PATH LOADEDMODULES "${!_LMFILES_@}" "${!_ModuleTable@}"
unset -v "${!__LMOD_@}" "${!__MODULES_@}" "${!TORCH_@}" "${!PYTORCH_@}" "${!TORCHINDUCTOR_@}"
unset -v "${!TORCHDYNAMO_@}" "${!TRITON_@}" "${!ATEN_@}" "${!NCCL_@}" "${!GLOO_@}" "${!UCX_@}" "${!UCC_@}"
unset -v TP_SOCKET_IFNAME DISABLE_ADDMM_CUDA_LT DISABLE_ADDMM_HIP_LT "${!NVFUSER_@}" "${!CUBLAS_@}"
unset -v "${!CUBLASLT_@}" "${!CUDNN_@}" NVIDIA_TF32_OVERRIDE CUDA_LAUNCH_BLOCKING CUDA_MODULE_LOADING
unset -v "${!CUDA_CACHE_@}" CUDA_FORCE_PTX_JIT CUDA_DISABLE_PTX_JIT CUDA_DEVICE_MAX_CONNECTIONS "${!OMP_@}"
unset -v "${!GOMP_@}" "${!KMP_@}" "${!MKL_@}" "${!DNNL_@}" "${!ONEDNN_@}" "${!OPENBLAS_@}" "${!GOTO_@}"
unset -v "${!BLIS_@}" "${!VECLIB_@}" "${!NUMEXPR_@}" "${!NUMBA_@}" "${!NPY_@}" "${!OPENCV_@}" "${!TBB_@}"
unset -v "${!FLEXIBLAS@}" MMDET_DATASETS MMENGINE_HOME MMCV_HOME CDPATH GLOBIGNORE EXECIGNORE POSIXLY_CORRECT
unset -v BASH_COMPAT

token=20260101-000000-0badcafe
results=/data/results/ddq
submission="$results"/submissions/20260101-000000-0badcafe
# Until an attempt has its folder, this output alone keeps the exit code: some schedulers do not tell it.
setup_code=''
# shellcheck disable=SC2154  # the trap assigns it
trap 'code=${setup_code:-$?}; [ "$code" = 0 ] || printf "ddqjobs: exit %d\n" "$code" >&2; [ -z "${setup_code:-}" ] || exit "$code"' EXIT
at_exit=$(trap -p EXIT)
cd -- "$submission" || exit 73  # where nothing can be imported
export DDQJOBS_INDEX=0  # one script per run: no variable tells an array's element which it is
DDQJOBS_JOB_ID=''
for name in BATCH_JOB_ID CCS_JOB_ID; do
  [ -n "$DDQJOBS_JOB_ID" ] || DDQJOBS_JOB_ID="${!name:-}"
done
export DDQJOBS_JOB_ID
[ -n "$DDQJOBS_JOB_ID" ] || { printf 'ddqjobs: none of these is set: BATCH_JOB_ID, CCS_JOB_ID\n' >&2; exit 70; }
export DDQJOBS_CODE="$results"/code/0123456789abcdef

die() {  # die CODE FAILURE MESSAGE: ends an attempt that cannot go on, saying why
  printf 'ddqjobs: %s\n' "$3" >&2
  [ -z "${attempt_dir:-}" ] || leave "$1" 1 "$2" "$3" false
  exit "$1"
}

words_of() {  # words_of COMMAND...: its last line, without what would end a text of JSON
  "$@" 2>&1 | tail -n 1 | tr -cd '[:alnum:] _./:,=+-' | cut -c 1-200
}

now() { date +%s.%3N; }

put() {  # put FILE: replaces a small file atomically by what comes on stdin
  cat > "$1.new" && mv -f -- "$1.new" "$1"
}

leave() {  # leave CODE PRODUCT FAILURE NOTE AGAIN: the attempt's last word
  printf '{"code":%d,"product":%d,"stopped":%s,"failure":"%s","note":"%s","again":%s,"at":%s}\n' \
    "$1" "$2" "$([ -e "$DDQJOBS_STOP" ] && echo true || echo false)" "$3" "$4" "$5" "$(now)" \
    | put "$attempt_dir/exit.json" || exit 73
}

set +u +o pipefail  # what a site brings along is seldom written for them
command -v module > /dev/null || { printf 'ddqjobs: this site has no module command\n' >&2; exit 69; }
module load python/3.8.12-gcc-4.8.5-jbm || { printf 'ddqjobs: module load %s failed\n' python/3.8.12-gcc-4.8.5-jbm >&2; exit 69; }
module load cuda/11.1.0-gcc-4.8.5-67q || { printf 'ddqjobs: module load %s failed\n' cuda/11.1.0-gcc-4.8.5-67q >&2; exit 69; }
module load gcc/9.3.0-gcc-4.8.5-bxl || { printf 'ddqjobs: module load %s failed\n' gcc/9.3.0-gcc-4.8.5-bxl >&2; exit 69; }
set -uo pipefail

# What this start runs: one function per element, named by its index.
# shellcheck disable=SC1003,SC2016,SC2329  # data in single quotes is meant so; called by its index
element_0() {  # p3-train.ddq-fcn-12e.ddq_fcn_4gpu
  export DDQJOBS_RUN=p3-train.ddq-fcn-12e.ddq_fcn_4gpu DDQJOBS_KIND=train DDQJOBS_MODEL=ddq-fcn-12e
  export DDQJOBS_SEED='' DDQJOBS_DETERMINISTIC=0 DDQJOBS_GPUS=4 DDQJOBS_NODES=1
  export DDQJOBS_ENVIRONMENT=legacy DDQJOBS_PYTHON="$HOME"/ddq/legacy/py38/bin/python
  export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
  DDQJOBS_INPUTS=''
  # shellcheck disable=SC2329  # called by the base script
  task() {
    export PYTHONPATH="${HOME:-}"/ddq/legacy/proj/DDQ:"${HOME:-}"/ddq/legacy/proj/DDQ/mmcv-1.4.7:"${PYTHONPATH:-}"
    cd -- "$HOME"/ddq/legacy/proj/DDQ || return 70
    export DDQJOBS_CONFIG="$PWD"/projects/configs/ddq_fcn/ddq_fcn_r50_1x.py
    case $DDQJOBS_PYTHON in */*) PATH="${DDQJOBS_PYTHON%/*}:$PATH" ;; esac  # code trees call plain `python`
    set +u
    # shellcheck source=/dev/null
    . "$HOME"/ddq/legacy/py38/bin/activate || return 69
    set -u
    # Our programs come from the snapshot, also where a code's own PYTHONPATH does not name it.
    case ":${PYTHONPATH:-}:" in
      *":$DDQJOBS_CODE:"*) ;;
      *) export PYTHONPATH="${PYTHONPATH:+$PYTHONPATH:}$DDQJOBS_CODE" ;;
    esac
    if [ -n "${DDQJOBS_ATTEMPT_DIR:-}" ]; then  # not in a shell by hand
      "$DDQJOBS_PYTHON" -m ddqjobs.detect.proof || return $?
      "$DDQJOBS_PYTHON" -m ddqjobs.detect.check --job "$DDQJOBS_CODE"/configs/ddq/resume_mmcv1.py 'optimizer=dict(lr=2.5e-05)' || return $?
    fi
    exec bash tools/train.sh "$DDQJOBS_CODE"/configs/ddq/resume_mmcv1.py 4 "$DDQJOBS_WORK_DIR" --cfg-options 'optimizer=dict(lr=2.5e-05)'
  }
}

"element_$DDQJOBS_INDEX" || exit 70
# Nor do the site's modules and setup lines bring Python paths, virtual environments or ranks.
left_out=''
leave_out() {  # values may be secret: all are kept back but those of two paths
  local name
  for name in "$@"; do
    case $name=${!name:-} in
      "$name=" | PYTHONNOUSERSITE=1) ;;  # not set, or set below, too
      PYTHONPATH=* | PYTHONHOME=*) left_out+=" $name=${!name}" ;;
      *) left_out+=" $name" ;;
    esac
    unset -v "$name"
  done
}
leave_out "${!PYTHON@}" __PYVENV_LAUNCHER__ EBPYTHONPREFIXES "${!VIRTUAL_ENV@}" "${!CONDA_@}" "${!_CONDA_@}"
leave_out _CE_CONDA _CE_M "${!MAMBA_@}" "${!MICROMAMBA_@}" "${!PYENV_@}" "${!PIPENV_@}" "${!PIXI_@}" UV_PYTHON
leave_out UV_PROJECT UV_PROJECT_ENVIRONMENT UV_SYSTEM_PYTHON UV_WORKING_DIRECTORY RANK LOCAL_RANK GROUP_RANK
leave_out ROLE_RANK ROLE_NAME NODE_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_WORLD_SIZE ROLE_WORLD_SIZE
leave_out MASTER_ADDR MASTER_PORT NNODES NPROC_PER_NODE "${!TORCHELASTIC_@}" "${!PET_@}" NCCL_COMM_ID
leave_out "${!OMPI_COMM_WORLD_@}" OMPI_UNIVERSE_SIZE "${!PMI_@}" "${!PMIX_@}" MPI_LOCALRANKID MPI_LOCALNRANKS
leave_out "${!MV2_COMM_WORLD_@}"
export PYTHONNOUSERSITE=1

# 1. The claim: whoever creates it first, this job or a command line that voids the ticket, has it for good.
export DDQJOBS_TICKET="$token.$DDQJOBS_INDEX"
export DDQJOBS_CLAIM="$results/claims/$DDQJOBS_TICKET"
mkdir -p -- "$results/claims" || exit 73
mine="$results/claims/.$DDQJOBS_TICKET.$$.$RANDOM"
printf 'run\n%s\n' "$DDQJOBS_JOB_ID" > "$mine" || exit 73
ln -- "$mine" "$DDQJOBS_CLAIM" 2> /dev/null
rm -f -- "$mine"
[ -e "$DDQJOBS_CLAIM" ] || { printf 'ddqjobs: no hard link can be made in %s\n' "$results/claims" >&2; exit 73; }
word='' holder=''
{ read -r word; read -r holder; } < "$DDQJOBS_CLAIM"
if [ "$word" != run ] || [ "$holder" != "$DDQJOBS_JOB_ID" ]; then
  printf 'ddqjobs: ticket %s is void or belongs to job %s; nothing to do\n' "$DDQJOBS_TICKET" "${holder:-none}" >&2
  exit 77
fi

# 2. The attempt: an exclusive mkdir numbers it; the highest number speaks for the run.
export DDQJOBS_RUN_DIR="$results/runs/$DDQJOBS_RUN"
if grep -qsE "\"ticket\": *\"$DDQJOBS_TICKET\"" "$DDQJOBS_RUN_DIR/product.json"; then
  exit 0  # started once more after its work was done: a scheduler that lost its memory does that
fi
mkdir -p -- "$DDQJOBS_RUN_DIR/attempts" || exit 73
number=1
until mkdir -- "$DDQJOBS_RUN_DIR/attempts/$number" 2> /dev/null; do
  [ -d "$DDQJOBS_RUN_DIR/attempts/$number" ] || exit 73
  number=$((number + 1))
done
attempt_dir="$DDQJOBS_RUN_DIR/attempts/$number"
export DDQJOBS_ATTEMPT="$number" DDQJOBS_ATTEMPT_DIR="$attempt_dir"
export DDQJOBS_WORK_DIR="$attempt_dir/work_dir" DDQJOBS_STOP="$attempt_dir/stop"
mkdir -- "$DDQJOBS_WORK_DIR" || exit 73
exec >> "$attempt_dir/stdout.log" 2>&1 || exit 73
[ "$(trap -p EXIT)" != "$at_exit" ] || trap - EXIT  # a setup line may have set another
if [ -n "$left_out" ]; then
  printf 'ddqjobs: left out, though setup lines or modules export it:%s\n' "$left_out"
  export DDQJOBS_LEFT_OUT="$left_out"
fi
sed -n "$((DDQJOBS_INDEX + 1))p" "$submission/manifest.jsonl" | put "$attempt_dir/run.json" || exit 73
printf '{"ticket":"%s","job":"%s","host":"%s","pid":%d,"at":%s}\n' "$DDQJOBS_TICKET" \
  "${DDQJOBS_JOB_ID//[^A-Za-z0-9._-]/_}" "${HOSTNAME//[^A-Za-z0-9._-]/_}" "$$" "$(now)" \
  | put "$attempt_dir/started.json" || exit 73

# 3. What can be checked before anything expensive starts.
command -v -- "$DDQJOBS_PYTHON" > /dev/null \
  || die 69 environment "the interpreter of environment ${DDQJOBS_ENVIRONMENT:-none} is missing"
for name in $DDQJOBS_INPUTS; do
  variable="DDQJOBS_INPUT_$name"
  [ -e "${!variable}" ] || die 66 data "input $name is missing"
done
export PYTHONPATH="$DDQJOBS_CODE" PYTHONUNBUFFERED=1
if [ -n "${DDQJOBS_TREE:-}" ]; then  # a code tree is not copied beside the job: is it what was submitted?
  "$DDQJOBS_PYTHON" -m ddqjobs.detect.tree "$DDQJOBS_TREE" "$DDQJOBS_TREE_STATE"
  [ $? != 78 ] || die 78 code "the code tree has changed since this run was submitted: 'ddqjobs retry ${results##*/} $DDQJOBS_RUN' takes it as it is"
fi
# A port of its own: from the ticket, then the first that can be bound here, where rank 0 will listen.
DDQJOBS_PORT=$((20000 + $(printf '%s' "$DDQJOBS_TICKET.$number" | cksum | cut -d ' ' -f 1) % 11000))
DDQJOBS_PORT=$("$DDQJOBS_PYTHON" -m ddqjobs.detect.launch --port "$DDQJOBS_PORT")
port_code=$?
case $port_code in
  0) ;;
  69) die 69 environment "environment ${DDQJOBS_ENVIRONMENT:-none} cannot be entered here" ;;  # its own word, above
  2) die 71 node "no port is free" ;;
  126 | 127) die 69 environment "the interpreter of environment ${DDQJOBS_ENVIRONMENT:-none} does not start: $(words_of "$DDQJOBS_PYTHON" --version)" ;;
  *) die 71 node "environment ${DDQJOBS_ENVIRONMENT:-none} does not work here, exit $port_code: $(words_of "$DDQJOBS_PYTHON" -m ddqjobs.detect.launch --port 20000)" ;;
esac
export DDQJOBS_PORT PORT="$DDQJOBS_PORT"
# torch 1.9's launcher starts failed workers anew, three times, which hang then or lose their exit code.
export PET_MAX_RESTARTS=0

# 4. The work, in the background, so that this shell hears signals. USR1 comes before a time limit, TERM with
#    preemption and cancellation: both only leave the stop file, which the task looks for.
asked=''
# shellcheck disable=SC2329  # called by the trap
ask_to_stop() { asked="$asked $1"; : > "$DDQJOBS_STOP"; }
trap 'ask_to_stop USR1' USR1
trap 'ask_to_stop TERM' TERM
# Where a signal comes as a child ends, bash's wait loses its exit code, and may say 128 and more of one that
# lives: the code is left in a file too, and the end is asked of the process.
noted() { printf '%d\n' "$1" > "$attempt_dir/task_exit"; exit "$1"; }

# Donau gives no warning before a time limit that anybody knows of: this script asks the task to stop in time.
(
  trap 'kill "$doze" 2> /dev/null; exit' TERM
  DDQJOBS_ATTEMPT_DIR='' sleep $((691080 > SECONDS ? 691080 - SECONDS : 0)) & doze=$!
  wait "$doze" && : > "$DDQJOBS_STOP"
) &
timer=$!
trap 'kill "$timer" 2> /dev/null' EXIT
# TERM reaches every process of a job, not this script alone: a training shall see the stop file instead.
(
  trap : USR1 TERM
  (
    [ "$DDQJOBS_KIND" != train ] || trap '' USR1 TERM
    task
  )
  noted $?
) &
child=$!
"$DDQJOBS_PYTHON" -m ddqjobs.detect.watchdog --task "$child" --spare "$$" --limit 1800 &
dog=$!
wait "$child"
code=$?
while [ "$code" != 127 ] && kill -0 "$child" 2> /dev/null; do
  wait "$child"
  code=$?
done
if [ -s "$attempt_dir/task_exit" ]; then read -r code < "$attempt_dir/task_exit"; fi

if [ -e "$attempt_dir/hang.json" ]; then wait "$dog"; else kill "$dog" 2> /dev/null; fi
# A launcher of several processes makes its own code of theirs; the task itself leaves word when it stops.
if [ "$code" != 0 ] && [ -e "$attempt_dir/stopped.json" ]; then code=75; fi

# 5. The product: looked for whatever the exit code was, since a task may die after its work was done.
#    TERM reaches every process of a job: what is done shall not be lost in its last moment. Nor the last word:
#    a part of a pipeline that bash starts as a signal comes may end by it.
trap '' USR1 TERM
DDQJOBS_EXIT_CODE=$code "$DDQJOBS_PYTHON" -m ddqjobs.detect.product
product=$?

if [ "$product" = 0 ]; then
  leave "$code" 0 "" "$([ "$code" = 0 ] || echo "the product is whole although the task ended with code $code")" false
  exit 0
fi
if [ -e "$attempt_dir/hang.json" ]; then
  leave "$code" "$product" hang "no new log line and no progress for 1800 s" false
  exit "$code"
fi
# A node that was cut off and came back: its job goes on elsewhere, and is not this script's any more.
word='' holder=''
{ read -r word; read -r holder; } < "$DDQJOBS_CLAIM"
if [ -d "$DDQJOBS_RUN_DIR/attempts/$((number + 1))" ] || [ "$word" != run ] || [ "$holder" != "$DDQJOBS_JOB_ID" ]; then
  leave 77 "$product" cancelled "given up: another attempt of the run has begun, or its ticket is void" false
  exit 77
fi
if [ "$code" = 75 ] && [ -n "$(find "$DDQJOBS_WORK_DIR" -name '*.pth' -newer "$attempt_dir/started.json" -print -quit)" ]; then
  # Stopped with progress: Donau does not requeue, so the planner submits the run again.
  leave 71 "$product" timeout "stopped; to be submitted again" false
  exit 71
fi
note=''
case $code in
  69) if [ -s "$attempt_dir/refused" ]; then failure=environment note=$(cat -- "$attempt_dir/refused"); else failure=; fi ;;
  0) code=70 failure="no product"
    if [ -s "$attempt_dir/no_product" ]; then note="it exited 0 without its product, $(cat -- "$attempt_dir/no_product")"; fi ;;
  75) code=71; failure=timeout ;;
  *) failure= ;;
esac
leave "$code" "$product" "$failure" "$note" false
exit "$code"
