"""The embedded scheduler of one machine: a queue on disk, a supervisor, and a launcher per job.

============  ==================================================================================
scheduler     what the rest of ddqjobs calls; files submissions, answers questions from disk
queue         the files: the only memory
supervisor    one daemon: gives slots to jobs in order, starts them through submitit, ends with the work
launcher      one process per running job: owns its processes, its time limit and its end
slots         what the machine has
============  ==================================================================================
"""
