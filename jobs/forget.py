import sys

from ddpm_seg.commands import forget

__doc__, main = forget.__doc__, forget.main

if __name__ == "__main__":
    sys.exit(main())
