"""`python -m grading.cli` is `goodinit`."""

import sys

from grading.cli import main

sys.exit(main())
