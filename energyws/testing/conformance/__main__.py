"""`python -m energyws.testing.conformance`."""

import sys

from energyws.testing.conformance.main import main

sys.exit(main())
