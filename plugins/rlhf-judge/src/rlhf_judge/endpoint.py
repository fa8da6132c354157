"""Asks a chat endpoint many questions at once, patiently but not for ever."""

from __future__ import annotations

import asyncio
import os
import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rlhf.errors import ConfigError
from rlhf_judge import loop
from rlhf_judge.backoff import pause
from rlhf_judge.faults import Fault, Unreadable
from rlhf_judge.settings import EndpointConfig
from rlhf_judge.usage import Usage

if TYPE_CHECKING:
    from rlhf_judge.client import ChatClient, Reply

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Question(Generic[T]):
    """What is asked, and how the answer is read: `parse` raises `Unreadable`."""

    messages: tuple[Mapping[str, str], ...]
    parse: Callable[[str], T]
    reminder: str
    """What is said to a judge whose answer could not be read."""
    schema: Mapping[str, Any] | None = None
    """The JSON schema to hold the answer to, at an endpoint that can."""


@dataclass(frozen=True, kw_only=True)
class Answer(Generic[T]):
    """What was read from the judge's `text`, or the `error` that prevented it; and what it took."""

    value: T | None = None
    text: str = ""
    error: str | None = None
    usage: Usage = field(default_factory=Usage)


@dataclass
class _Call:
    """What the questions of one call share."""

    deadline: float
    answered: bool = False
    down: str | None = None
    """Why nobody would be answered: what the next row need not find out again."""


@dataclass(frozen=True)
class _Live:
    """What belongs to one event loop and cannot leave it."""

    loop: asyncio.AbstractEventLoop
    client: ChatClient
    slots: asyncio.Semaphore


class Endpoint:
    """A chat endpoint. Building one opens no connection; the first question does.

    Raises:
        ConfigError: the key's environment variable is not set, or holds what cannot be a key.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.usage = Usage(cost=0.0 if config.input_price is not None else None)
        self._live: _Live | None = None
        self._dice = random.Random()  # its own: the seeds of the process are for what must repeat
        _read_key(config)

    def __repr__(self) -> str:
        return f"Endpoint({self.config.label})"

    def __reduce__(self) -> tuple[type[Endpoint], tuple[EndpointConfig]]:
        """Travels as its settings; the key is read again where it arrives."""
        return Endpoint, (self.config,)

    def ask(self, questions: Sequence[Question[T] | Answer[T]]) -> list[Answer[T]]:
        """One answer a question, in order. What could not be asked may be handed in as its `Answer`.

        A failure is the `error` of its answer and starts with the judge's name and URL; nothing is raised.
        """
        return loop.run(self.answers(questions))

    async def answers(self, questions: Sequence[Question[T] | Answer[T]]) -> list[Answer[T]]:
        """`ask`, on the judges' event loop."""
        live = self._connected()
        call = _Call(deadline=live.loop.time() + self.config.deadline)
        tasks = [asyncio.ensure_future(self._answer(question, live, call)) for question in questions]
        try:
            return list(await asyncio.gather(*tasks))
        finally:  # a mistake of ours in one: the others must not go on asking unheard
            for task in tasks:
                task.cancel()

    def _connected(self) -> _Live:
        running = asyncio.get_running_loop()
        if self._live is None or self._live.loop is not running:
            from rlhf_judge.client import ChatClient  # openai takes a second to load

            client = ChatClient(self.config, _read_key(self.config))
            # Not at the process's end: its connections end with it.
            weakref.finalize(self, loop.close, client, running).atexit = False
            self._live = _Live(running, client, asyncio.Semaphore(self.config.requests_at_once))
        return self._live

    async def _answer(self, question: Question[T] | Answer[T], live: _Live, call: _Call) -> Answer[T]:
        if isinstance(question, Answer):
            return question
        tally = _Tally(self)
        async with live.slots:
            try:
                value, text = await self._verdict(question, live, call, tally)
            except (Fault, Unreadable) as failure:
                return Answer(error=f"{self.config.label}: {failure}", usage=tally.usage)
        return Answer(value=value, text=text, usage=tally.usage)

    async def _verdict(self, question: Question[T], live: _Live, call: _Call, tally: _Tally) -> tuple[T, str]:
        """What the judge decided, and its words; a judge that cannot be read is asked again, with a reminder."""
        messages = question.messages
        problem = Unreadable("never asked")
        for _ in range(self.config.parse_retries + 1):
            reply = await self._reply(messages, question.schema, live, call, tally)
            try:
                return question.parse(reply.text), reply.text
            except Unreadable as error:
                problem = error
            tally.add(Usage(unreadable=1))
            last = question.messages[-1]
            messages = (*question.messages[:-1], {**last, "content": f"{last['content']}\n\n{question.reminder}"})
        raise problem

    async def _reply(
        self,
        messages: Sequence[Mapping[str, str]],
        schema: Mapping[str, Any] | None,
        live: _Live,
        call: _Call,
        tally: _Tally,
    ) -> Reply:
        """One answer, after as many attempts as it takes and the config allows. `Fault` where none came."""
        fault = Fault("never asked")
        for attempt in range(self.config.attempts):
            left = self._time_left(live, call, fault if attempt else None)
            tally.add(Usage(requests=1, retries=int(attempt > 0)))
            patience = min(self.config.request_timeout, left)
            try:
                async with asyncio.timeout(patience):
                    reply = await live.client.complete(messages, schema)
            except TimeoutError:
                fault = Fault(f"no answer within {patience:.3g} s", transient=True)
            except Fault as found:
                fault = found
            else:
                call.answered = True
                return tally.counted(reply)
            if not fault.transient:
                break
            if attempt + 1 < self.config.attempts:
                await self._wait(attempt, fault, live, call)
        if fault.for_everyone and not call.answered:
            call.down = str(fault)
        raise Fault(f"{fault} (after {attempt + 1} attempts)" if attempt else str(fault))

    def _time_left(self, live: _Live, call: _Call, before: Fault | None) -> float:
        if call.down:
            raise Fault(call.down)
        left = call.deadline - live.loop.time()
        if left <= 0:
            last = f"; the last attempt: {before}" if before else ""
            raise Fault(f"not judged within the deadline of {self.config.deadline:g} s{last}")
        return left

    async def _wait(self, attempt: int, fault: Fault, live: _Live, call: _Call) -> None:
        seconds = pause(attempt, fault.retry_after, self._dice)
        if live.loop.time() + seconds > call.deadline:
            raise Fault(
                f"{fault}; asking again in {seconds:.3g} s would miss the deadline of {self.config.deadline:g} s"
            )
        await asyncio.sleep(seconds)

    def _price(self, reply: Reply) -> float | None:
        if self.config.input_price is None or self.config.output_price is None:
            return None
        tokens = reply.prompt_tokens * self.config.input_price + reply.completion_tokens * self.config.output_price
        return tokens / 1e6


class _Tally:
    """What one question takes, added to the endpoint's total as it happens. Touched on the loop's thread only."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.usage = Usage()

    def add(self, usage: Usage) -> None:
        self.usage += usage
        self._endpoint.usage += usage

    def counted(self, reply: Reply) -> Reply:
        """The reply, its tokens counted; `Fault` where it cannot be used."""
        self.add(
            Usage(
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                cost=self._endpoint._price(reply),
            )
        )
        if reply.problem:
            raise Fault(reply.problem)
        return reply


def _read_key(config: EndpointConfig) -> str | None:
    """The key from the environment variable the config names; None where it names none."""
    name = config.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(f"{config.label}: api_key_env names {name}, which is not set in this process; export it")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ConfigError(f"{config.label}: the key in {name} holds characters that no HTTP header may; set it anew")
    return key
