import sys

from ddpm_seg.commands import convert

__doc__, main = convert.__doc__, convert.main

if __name__ == "__main__":
    sys.exit(main())
