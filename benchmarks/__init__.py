"""Speed against peers: each module measures two things in one run and prints a ratio."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # its servers and its farm of boards
