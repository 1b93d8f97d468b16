"""
What stands between the servers and the processes: tables, contracts, schedule, staff accounts.

`python -m config.devstack.preparation`: one process for all of it, because starting Django costs more than the work.
Every step changes nothing where it was done before. One that fails is named in the last line, and ends the process.
"""

import os
import sys

from config.devstack import people
from config.devstack.state import State


def steps(state: State) -> list[tuple[str, ...]]:
    """List the management commands, in order."""
    return [
        ("migrate", "--no-input"),
        ("setup_schedules",),
        *people.commands(state),
        ("deploy_contracts",),
    ]


def main() -> int:
    """Run them; answer the exit status."""
    import django
    from django.core.management import call_command

    step = "settings"
    try:
        django.setup()
        for step, *arguments in steps(State.at(os.environ["STATE_DIR"])):
            print(f"# {step} {' '.join(arguments)}", flush=True)
            call_command(step, *arguments)
    except Exception as error:
        import traceback

        traceback.print_exc()
        print(f"error: {step}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
