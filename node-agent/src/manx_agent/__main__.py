"""`python -m manx_agent`: the agent, until it is told to end; or one of its commands, given as the first argument.

counters [--policy NAME] [--json]   packets and bytes of each rule of each policy on this node
cleanup                             takes everything of Manx's out of this node's kernel
"""

import sys


def main() -> int:
    """Returns the exit code."""
    command, *arguments = [*sys.argv[1:], ""]
    arguments = [argument for argument in arguments if argument]
    if command == "counters":
        from manx_agent import counters

        return counters.main(arguments)
    if command == "cleanup":
        from manx_agent import cleanup

        return cleanup.main(arguments)
    if command:
        print(f"manx-agent: unknown command {command!r}: allowed are counters and cleanup", file=sys.stderr)
        return 2
    from manx_agent.main import main as agent

    return agent()


if __name__ == "__main__":
    sys.exit(main())
