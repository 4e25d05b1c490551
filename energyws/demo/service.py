"""The demo's service: `energyws serve`, but it ends when the demo does."""

from __future__ import annotations

import os
import sys

from energyws.testing.parent import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    # The wish survives exec (prctl(2)), so this is the service as everybody runs it.
    os.execv(sys.executable, [sys.executable, "-m", "energyws.cli", "serve", *sys.argv[1:]])
