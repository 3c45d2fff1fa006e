"""Pipelines that fault tests run in child processes: ``{"role": "pipeline", "build": "chains:counting"}``."""

from __future__ import annotations

from typing import Any

from minibatch.models import Stream
from minibatch.operators import Pipeline


def counting(stream: Stream) -> Pipeline:
    """Three streams, two of them written in the transactions of commits, and a table beside the last one."""
    return stream.map(dict).through('between').group_by(last_digit, table='counts').count().to('out')


def last_digit(message: dict[str, Any]) -> str:
    return str(message['id'][-1])


def joining(stream: Stream) -> Pipeline:
    """Both sides of a join come from one stream: the numbers below 80, and those from 40 on."""
    left, right = stream.branch(left=lambda message: number(message) < 80, right=lambda message: number(message) >= 40)
    return left.join(right, on=number, within=0.2, time=at, lateness=3, how='outer', name='both').to('out')


def number(message: dict[str, Any]) -> int:
    return int(message['id'].partition(':')[2])


def at(message: dict[str, Any]) -> float:
    return 1_000_000.0 + number(message) / 100
