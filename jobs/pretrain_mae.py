import sys

from ddpm_seg.commands import pretrain_mae

__doc__, main = pretrain_mae.__doc__, pretrain_mae.main

if __name__ == "__main__":
    sys.exit(main())
