"""Programs that measure, each beside a twin in the same run; `python -m bench.trainer --help`.

Runs from a checkout as it is, installed or not: the packages are put on the path here.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [str(ROOT / name) for name in ("api", "operator", "trainer-image", "deploy/local")]
sys.path[:0] = [path for path in PACKAGES if path not in sys.path]
#: For processes that a measurement starts.
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), *PACKAGES, os.environ.get("PYTHONPATH", "")]),
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "CI": "true",
}
