"""`python -m nnguard.cli`."""

import sys

from nnguard.cli import main

sys.exit(main())
