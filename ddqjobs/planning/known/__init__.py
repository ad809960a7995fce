"""Tables of what programs are known to say when a job ends, each line with its class.

Each module names the programs. Of Slurm and NCCL the texts were compared with the sources, of Linux' error
numbers a test compares all; the others are known from reports and from experience.
"""
