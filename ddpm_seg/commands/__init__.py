"""The jobs, one a file: its help, its configuration, the call that does the work, and what it prints.

Nothing heavy is imported before the arguments are read: the work's own modules (torch, Ray) come in the function that
works.
"""
