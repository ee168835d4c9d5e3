"""`python -m manx_agent`: the agent, until it is told to end."""

import sys

from manx_agent.main import main

sys.exit(main())
