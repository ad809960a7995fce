"""Exit codes of a job script and of what it starts (docs/reference/job-contract.md), numbered as in
sysexits.h.

The project and the templates take them from here, too. A task may end with any of them and mean something
else. Standard library only.
"""

NO_INPUT = 66  # EX_NOINPUT: an input is missing
NO_ENVIRONMENT = 69  # EX_UNAVAILABLE: the environment, or a module, is missing
BROKEN = 70  # EX_SOFTWARE: the task ended well without its product, or the script is not whole
NOT_HERE = 71  # EX_OSERR: this start cannot go on: no port, nodes that did not meet, stopped without progress
NO_ROOM = 73  # EX_CANTCREAT: the results folder cannot be written
STOPPED = 75  # EX_TEMPFAIL: the task saved and ended because it was asked to
NOT_MINE = 77  # EX_NOPERM: the ticket is void, or another job's
CHANGED = 78  # EX_CONFIG: the code tree is another one than at submission
