"""Where things lie: every path of the project starts at its root, wherever Python was started."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "data"
REPORTS = ROOT / "reports"
NOTEBOOKS = ROOT / "notebooks"
