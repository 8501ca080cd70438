import sys

from ddpm_seg.commands import annotate

__doc__, main = annotate.__doc__, annotate.main

if __name__ == "__main__":
    sys.exit(main())
