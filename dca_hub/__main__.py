"""`python -m dca_hub`."""

import sys

from dca_hub.cli import main

sys.exit(main())
