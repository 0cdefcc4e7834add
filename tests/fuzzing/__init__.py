"""Feeds every reader with damaged files. `python -m tests.fuzzing --help`."""
