import sys

from ddpm_seg.commands import label

__doc__, main = label.__doc__, label.main

if __name__ == "__main__":
    sys.exit(main())
