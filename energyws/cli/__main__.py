"""`python -m energyws.cli`: the same as the command `energyws`."""

import sys

from energyws.cli.main import main

sys.exit(main())
