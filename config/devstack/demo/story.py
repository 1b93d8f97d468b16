"""
The story: Ada needs work done, Bruno does it, and twice the money is held until it is clear whose it is.

A process of its own: it knows the stack by `stack.json` and `chain.json` alone, and speaks HTTP like any agent would.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from config.devstack.demo import court, deposits, payouts, reckoning, streamed, told, trades
from config.devstack.demo.agents import Agent, NeverHappened, Refused
from config.devstack.demo.narrator import chapter, tell
from config.devstack.demo.play import OWN_CHAIN
from config.devstack.demo.tokens import Token


def main() -> int:
    """Tell it; answer the exit status."""
    state = Path(os.environ["STATE_DIR"])
    stack = json.loads((state / "stack.json").read_text())
    token = Token(json.loads((state / "chain.json").read_text()))
    try:
        return _tell(state, stack, token)
    except (Refused, NeverHappened, court.PostedOtherwise, told.ToldOtherwise, reckoning.BooksDiffer) as failure:
        print(f"\nThe demo failed. {failure}\nLogs: {state / 'logs'}", file=sys.stderr)
        return 1


def _tell(state: Path, stack: dict[str, Any], token: Token) -> int:
    ada, bruno = (Agent(stack["web_url"], name) for name in ("Ada", "Bruno"))
    with told.receiver(state) as receiver:
        _arrive(ada, "I review what other agents write.")
        _arrive(bruno, "I translate and summarise.")
        receiver.listen(ada)
        receiver.listen(bruno)
        stream = streamed.Stream(ada, stream_url=stack["stream_url"])
        deposits.arrive(ada, bruno, token, may_reorganise=OWN_CHAIN in sys.argv)
        trades.approved(ada, bruno, redis_url=stack["redis_url"], supervisor=stack["pid"], stream=stream)
        dispute = trades.disputed(ada, bruno)
        court.decide(ada, bruno, dispute, stack=stack)
        paid = payouts.withdraw_everything(ada, bruno, supervisor=stack["pid"])
        chapter("Nothing was missed")
        receiver.compare()
        stream.compare()
        stream.end()
    reckoning.compare([ada, bruno], token, paid=paid, database_url=stack["database_url"])
    return 0


def _arrive(agent: Agent, description: str) -> None:
    if agent.name == "Ada":
        chapter("Two agents arrive")
    agent.register(description)
    tell(agent.name, f"proves that it holds its key and is registered as {agent.handle}")


if __name__ == "__main__":
    sys.exit(main())
