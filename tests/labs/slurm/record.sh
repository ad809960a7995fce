#!/usr/bin/env bash
# record.sh FOLDER: what this lab's version of Slurm prints of one job of each kind, for tests/recorded/slurm.
# On a lab that nobody has used yet: the jobs' numbers are part of what is recorded. Takes half a minute.
set -euo pipefail
OUT=$(realpath "$1")
mkdir -p "$OUT"
US=$'\x1f'
work=$(mktemp -d)
cd "$work"
mkdir out

submit() { sbatch --parsable --output="$work/out/%j.log" "$@"; }
ended() { [ -z "$(squeue -h --jobs="$1" --states=PENDING,RUNNING,COMPLETING 2> /dev/null)" ]; }
wait_until() { for _ in $(seq 600); do "$@" && return; sleep 0.1; done; echo "record.sh: $* in vain" >&2; exit 1; }
state_is() { [ "$(squeue -h --jobs="$1" -o %T 2> /dev/null)" = "$2" ]; }

# An element gets a number of its own when it starts: nothing starts before all have theirs.
scontrol update partitionname=gpu state=down
# shellcheck disable=SC2016  # expanded by the job
[ "$(submit --comment=tok1 --array=0-2 --wrap 'sleep 3; [ "$SLURM_ARRAY_TASK_ID" != 1 ]')" = 1 ] \
  || { echo "record.sh: this lab has had jobs before" >&2; exit 1; }
submit --comment=tok2 --array=0-2 --dependency=aftercorr:1 --kill-on-invalid-dep=yes --wrap true
submit --comment=tok3 --dependency=afterok:1_0 --wrap true
submit --dependency=afterok:1_1 --kill-on-invalid-dep=yes --wrap true
submit --begin=now+1hour --wrap true
for _ in 6 7 8 9; do sbatch --test-only --wrap true 2> /dev/null; done  # each uses a number up
submit --job-name=exp.task.tok-name --hold --array=0-9%2 --wrap true
scancel 5 10
submit --wrap true
submit --hold --comment=tok-array --array=0-3%2 --wrap true
submit --comment="a|b
c" --wrap 'sleep 3600'
submit --mem=30 --wrap 'python3 -c "x = bytearray(300 << 20); import time; time.sleep(30)"'
sbatch --parsable --output="$work/missing/%j.log" --wrap true
scontrol update partitionname=gpu state=up
wait_until ended 4
wait_until ended 14
wait_until ended 15
wait_until state_is 13 RUNNING
accounted() { [ "$(sacct -X -P -n --jobs=4,15 --format=State | grep -cE 'CANCELLED|COMPLETED|FAILED')" = 2 ]; }
wait_until accounted

all=1,2,3,4,5,10,11,12,13,14,15
squeue --user=0 --array --states=all --format="%i$US%T$US%r$US%N$US%j$US%k" > "$OUT/squeue.txt"
sacct --allocations --parsable2 --delimiter="$US" --jobs="$all" \
  --format=JobID,State,Reason,NodeList,ExitCode,JobName,Comment > "$OUT/sacct.txt"
# All words that squeue knows: it lists them when it is asked for one that it does not know.
{ squeue --states=nonsense 2>&1 || true; } | sed -n 's/.*include: *//p' | tr 'a-z,' 'A-Z\n' | sort > "$OUT/states.txt"
scancel --user=0
sinfo --version
