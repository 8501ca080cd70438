import sys

from ddpm_seg.commands import curate

__doc__, main = curate.__doc__, curate.main

if __name__ == "__main__":
    sys.exit(main())
