import sys

from ddpm_seg.commands import pretrain

__doc__, main = pretrain.__doc__, pretrain.main

if __name__ == "__main__":
    sys.exit(main())
