"""The demo's service: `energyws serve` that ends when the demo does."""

from __future__ import annotations

import os
import sys

from energyws.testing.parent import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    # The parent-death signal survives exec (prctl(2)), so this is the ordinary service.
    command = [sys.executable, "-P", "-m", "energyws.cli", "serve", *sys.argv[1:]]
    os.execv(sys.executable, command)
