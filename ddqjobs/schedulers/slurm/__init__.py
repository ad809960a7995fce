"""Slurm, through its own commands: one ``sbatch`` per submission, one ``squeue`` for all jobs, ``sacct`` for
those that left the queue, ``scancel``.

============  ==================================================================================
scheduler     what the rest of ddqjobs calls: builds command lines, runs them, says what failed
answers       what the commands print -> rows; pure, strict
states        a row -> one of our states, for every state that Slurm knows; pure
holding       jobs -> the words by which `scontrol` holds or releases them, page by page; pure
dependencies  who waits for whom -> an option of ``sbatch``; pure
============  ==================================================================================
"""
