"""`python -m config.devstack up | demo | code <account> | faucet <address> <amount> | manage … | servers -- …`."""

import os
import sys
from pathlib import Path

from config.devstack.failures import StackFailed

USAGE = """usage: python -m config.devstack up | demo | code <account> | faucet <address> <amount>
       python -m config.devstack manage <command of manage.py> [argument ...]
       python -m config.devstack servers -- <command> [argument ...]"""


def main(arguments: list[str]) -> int:
    """Do what the command line says; answer the exit status."""
    match arguments:
        case ["up"]:
            from config.devstack import up

            return up.run()
        case ["demo"]:
            from config.devstack.demo import play

            return play.run()
        case ["code", account]:
            from config.devstack import people

            return people.run(account)
        case ["faucet", address, amount]:
            from config.devstack import faucet

            return faucet.run(Path(os.environ.get("STATE_DIR", ".local")), address, amount)
        case ["manage", _, *_]:
            from config.devstack import errands

            return errands.run(arguments[1:])
        case ["servers", "--", _, *_]:
            from config.devstack import throwaway

            return throwaway.run(arguments[2:])
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except StackFailed as failure:
        print(f"The stack did not start. {failure}", file=sys.stderr)
        sys.exit(1)
