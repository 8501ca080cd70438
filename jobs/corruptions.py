import sys

from ddpm_seg.commands import corruptions

__doc__, main = corruptions.__doc__, corruptions.main

if __name__ == "__main__":
    sys.exit(main())
