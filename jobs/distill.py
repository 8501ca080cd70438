import sys

from ddpm_seg.commands import distill

__doc__, main = distill.__doc__, distill.main

if __name__ == "__main__":
    sys.exit(main())
