#!/usr/bin/env bash
# down.sh [--wipe]: stops exactly what up.sh started, by recorded pid; --wipe also forgets the lab's state.
set -uo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/labs/slurm/lib.sh
. "$HERE/lib.sh"
[ -d "$LAB/pid" ] || exit 0

stop slurmctld
for file in "$LAB"/pid/*; do
  case ${file##*/} in munged | mariadbd | '*') ;; *) stop "${file##*/}" & ;; esac
done
wait
# What outlived its node: processes of a job whose environment names this lab, and their slurmstepd.
for file in /proc/[0-9]*/environ; do
  pid=${file//[!0-9]/}
  [ "$pid" = $$ ] && continue
  grep -qsaF "SLURM_CONF=$LAB/etc/slurm.conf" "$file" || continue
  if grep -qsa 'SLURM_JOB_ID=' "$file" || [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = slurmstepd ]; then
    kill -9 "$pid" 2> /dev/null
  fi
done
stop mariadbd
stop munged
if [ -s "$LAB/slot" ]; then
  for folder in /sys/fs/cgroup/memory/slurm_lab"$(< "$LAB/slot")"n*; do
    [ -d "$folder" ] && find "$folder" -depth -type d -exec rmdir {} + 2> /dev/null
  done
fi
if [ "${1:-}" = --wipe ]; then
  rm -rf -- "${LAB:?}"/{etc,pid,run,log,state,spool,dev,mysql,env.sh,slot}
  rmdir -- "$LAB" 2> /dev/null
fi
exit 0
