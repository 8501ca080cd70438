import sys

from ddpm_seg.commands import changes

__doc__, main = changes.__doc__, changes.main

if __name__ == "__main__":
    sys.exit(main())
