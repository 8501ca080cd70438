import sys

from ddpm_seg.commands import explore

__doc__, main = explore.__doc__, explore.main

if __name__ == "__main__":
    sys.exit(main())
