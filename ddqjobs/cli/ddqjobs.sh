#!/bin/sh
# The `ddqjobs` command. Python answers a SIGINT that comes while it starts with a traceback; held back until
# `interrupts.py` is there, it ends the process silently. The entry point beside this script knows its Python.
self=$(readlink -f -- "$0" 2>/dev/null) || self=$0
entry=${self%/*}/_ddqjobs
if env --block-signal=INT true 2>/dev/null; then # coreutils 8.31 and later
  exec env --block-signal=INT -- "$entry" "$@"
fi
exec "$entry" "$@"
