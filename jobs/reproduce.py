import sys

from ddpm_seg.commands import reproduce

__doc__, main = reproduce.__doc__, reproduce.main

if __name__ == "__main__":
    sys.exit(main())
