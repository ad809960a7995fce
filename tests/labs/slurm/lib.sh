# shellcheck shell=bash
# What up.sh and down.sh share. The lab is one folder ($LAB); whatever it starts has its pid in $LAB/pid/NAME.
LAB=${SLURMLAB_DIR:-${TMPDIR:-/tmp}/slurmlab}

die() {  # die MESSAGE
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

alive() {  # alive NAME: whether the recorded process still runs, and is still that program
  local pid
  [ -s "$LAB/pid/$1" ] && pid=$(< "$LAB/pid/$1") && grep -qsa -- "$1" "/proc/$pid/cmdline"
}

wait_for() {  # wait_for WHAT SECONDS COMMAND...: until the command succeeds
  local what=$1 tries=$(($2 * 20)) i
  shift 2
  for ((i = 0; i < tries; i++)); do
    "$@" > /dev/null 2>&1 && return 0
    sleep 0.05
  done
  die "$what did not come up; see $LAB/log"
}

answers() {  # answers PORT: whether somebody listens there
  (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

stop() {  # stop NAME: TERM, then KILL; forgets its pid
  local file=$LAB/pid/$1 pid target i
  [ -s "$file" ] || return 0
  pid=$(< "$file")
  if alive "$1"; then
    target=$pid
    # unshare ignores TERM, so its child is told: pid 1 of the node
    if grep -qa '^unshare' "/proc/$pid/cmdline"; then
      target=$(< "/proc/$pid/task/$pid/children")
    fi
    # shellcheck disable=SC2086  # children is a list with a space at its end
    kill $target 2> /dev/null
    for ((i = 0; i < 100; i++)); do
      [ -d "/proc/$pid" ] || break
      sleep 0.05
    done
    [ -d "/proc/$pid" ] && kill -9 "$pid"
  fi
  rm -f -- "$file"
}
