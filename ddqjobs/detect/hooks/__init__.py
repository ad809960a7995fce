"""Hooks that ddqjobs adds to a training. Importing a module of this package registers its hooks."""
