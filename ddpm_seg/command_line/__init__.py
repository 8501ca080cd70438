"""How every job is called and how it ends: arguments, signals, one line and an exit status."""
