import sys

from ddpm_seg.commands import evaluate

__doc__, main = evaluate.__doc__, evaluate.main

if __name__ == "__main__":
    sys.exit(main())
