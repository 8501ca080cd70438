import sys

from ddpm_seg.commands import generate

__doc__, main = generate.__doc__, generate.main

if __name__ == "__main__":
    sys.exit(main())
