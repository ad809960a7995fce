"""Run inside the jobs' environments: convert, train, test, align, verify.

Imports nothing else of ddqjobs and is copied beside the job, so it may be read by Python 3.8 and run with
torch 1.9. Importing a module here loads torch only if the module cannot work without it.
"""
