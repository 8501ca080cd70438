import sys

from ddpm_seg.commands import showcase

__doc__, main = showcase.__doc__, showcase.main

if __name__ == "__main__":
    sys.exit(main())
