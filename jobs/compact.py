import sys

from ddpm_seg.commands import compact

__doc__, main = compact.__doc__, compact.main

if __name__ == "__main__":
    sys.exit(main())
