"""A stage for killings: a node that may lie, a treasury process that will die, two that will take over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from escrow.tests.chain import LocalChain
from escrow.tests.kill.processes import Bell, TreasuryProcess
from escrow.tests.liar import Liar, liar

PATIENCE_SECONDS = 120  # after which a test gives up; nothing is measured


class Stage:
    """Where the processes of one chain meet. The two honest ones are kept from test to test and idle until rung for."""

    def __init__(self, chain: LocalChain, logs: Path) -> None:
        self.chain_url = chain.url
        self.chain = chain
        self.logs = logs
        self._stack = ExitStack()
        self.proxy: Liar = self._stack.enter_context(liar(chain.url))
        self.bell = self._new_bell("honest")
        self._honest = [self._start(f"honest{n}", self.bell) for n in (1, 2)]
        self._count = 0

    def doomed(self, at: str, **told: str) -> Doomed:
        """A process that dies at a place, or (with none) when somebody kills it."""
        self._count += 1
        name = f"doomed{self._count}"
        bell = self._new_bell(name)
        note = self.logs / f"{name}.note"
        process = self._start(name, bell, KILL_AT=at, KILL_NOTE=str(note), **told)
        return Doomed(process, bell, at, note)

    def take_over(self, is_done: Callable[[], bool]) -> None:
        """Let both honest ones work at once until it is done, a few blocks a round."""
        self._until(lambda: self.bell.ring(2), is_done)
        self._until(lambda: None, self.bell.is_silent)

    def _until(self, do: Callable[[], None], is_done: Callable[[], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not is_done():
            assert all(process.is_running() for process in self._honest), self._words()
            assert time.monotonic() < give_up, self._words()
            do()
            self.chain.mine(2)
            time.sleep(0.1)

    def end(self) -> None:
        self._stack.close()

    def _words(self) -> str:
        return "\n".join(process.last_words() for process in self._honest)

    def _new_bell(self, name: str) -> Bell:
        bell = Bell(f"kill:{os.getpid()}:{name}:")
        self._stack.callback(bell.close)
        return bell

    def _start(self, name: str, bell: Bell, **told: str) -> TreasuryProcess:
        log = self.logs / f"{name}.log"
        process = TreasuryProcess(self.chain, rpc_url=self.proxy.url, prefix=bell.prefix, log=log, told=told)
        self._stack.callback(process.kill)
        return process


class Doomed:
    """A treasury process that is going to die, and the proof that it did, and where."""

    def __init__(self, process: TreasuryProcess, bell: Bell, at: str, note: Path) -> None:
        self.process = process
        self._bell = bell
        self._at = at
        self._note = note

    def works_until(self, is_over: Callable[[], bool], between: Callable[[], Any]) -> None:
        """Ring for it, with something happening between the rounds."""
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not is_over():
            assert time.monotonic() < give_up, self.process.last_words()
            self._bell.ring()
            between()
            time.sleep(0.1)

    def dies(self, between: Callable[[], Any]) -> None:
        """Let it work until it is dead: by SIGKILL, and where it was told to."""
        self.works_until(lambda: not self.process.is_running(), between)
        assert self.process.was_killed(), self.process.last_words()
        if self._at:
            assert self._note.read_text() == self._at


@pytest.fixture(scope="module")
def _stages(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[LocalChain], Stage]]:
    """The stage of a chain; its processes end before the database does."""
    stage: Stage | None = None

    def of(chain: LocalChain) -> Stage:
        nonlocal stage
        if stage and stage.chain_url != chain.url:
            stage.end()
            stage = None
        stage = stage or Stage(chain, tmp_path_factory.mktemp("kill"))
        return stage

    yield of
    if stage:
        stage.end()


@pytest.fixture
def stage(
    _stages: Callable[[LocalChain], Stage], transactional_db: None, chain: LocalChain, settings: Any
) -> Iterator[Stage]:
    """Everybody, the tests' own process too, speaks to the node that may lie; blocks come when the test mines them."""
    stage = _stages(chain)
    settings.CHAIN_RPC_URL = stage.proxy.url
    stage.proxy.calls.clear()
    yield stage
    stage.proxy.honest()
