import sys

from ddpm_seg.commands import probe

__doc__, main = probe.__doc__, probe.main

if __name__ == "__main__":
    sys.exit(main())
