import sys

from ddpm_seg.commands import compare

__doc__, main = compare.__doc__, compare.main

if __name__ == "__main__":
    sys.exit(main())
