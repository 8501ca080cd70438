import sys

from ddpm_seg.commands import avatars

__doc__, main = avatars.__doc__, avatars.main

if __name__ == "__main__":
    sys.exit(main())
