import sys

from ddpm_seg.commands import export

__doc__, main = export.__doc__, export.main

if __name__ == "__main__":
    sys.exit(main())
