import sys

from ddpm_seg.commands import benchmark

__doc__, main = benchmark.__doc__, benchmark.main

if __name__ == "__main__":
    sys.exit(main())
