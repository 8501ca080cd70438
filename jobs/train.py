import sys

from ddpm_seg.commands import train

__doc__, main = train.__doc__, train.main

if __name__ == "__main__":
    sys.exit(main())
