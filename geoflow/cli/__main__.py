"""``python -m geoflow.cli``."""

import sys

from geoflow.cli import main

sys.exit(main())
