"""One file per job: its help text, its configuration, the call that does the work, and what it prints.

Modules that import torch or Ray are imported inside functions, after the arguments are parsed, so that --help is fast.
"""
