"""`python -m pwsseg.cli`: the command `pwsseg` without an installed script."""

import sys

from pwsseg.cli import main

sys.exit(main())
