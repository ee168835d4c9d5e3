"""`python -m manx_operator`."""

import sys

from manx_operator.main import main

sys.exit(main())
