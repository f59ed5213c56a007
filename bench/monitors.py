"""The monitors beside each other: `rocket bench monitors`, from a checkout.

    python bench/monitors.py --output /tmp/found
    python bench/monitors.py --help

The code is in rocket/bench, so that an installed Rocket has it, too. bench/MONITORS.md has our own results.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rocket.commands.bench import monitors
from rocket.errors import RocketError

if __name__ == "__main__":
    try:
        monitors(prog_name="rocket bench monitors")
    except RocketError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        sys.exit(2)  # as `rocket` does for a wrong option
