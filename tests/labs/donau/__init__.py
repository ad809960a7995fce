"""A small Donau for tests: the commands of both generations over one state file, which really run the jobs'
scripts as processes. No daemon: whatever command is called starts what can start.

=================  =============================================================================
dsub, djob, dkill  executables (all run main.py); DONAULAB names the folder of the state
commands           what they understand and print, in the dialect of the lab; faults
state              the jobs, under a lock; which of them may start
runner             one process per running job: replicas, time limit, its end
=================  =============================================================================

It is only as true as docs/reference/donau.md: what nobody knows of Donau it does in the nastiest way.
"""
