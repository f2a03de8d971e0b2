"""Operations that a spawned process can import."""

from __future__ import annotations

import asyncio
import os
import signal
import time


class PausesError(Exception):
    pass


def pause(context):
    context.acquired()
    time.sleep(0.001)


def record_process(context):
    context.shared.append(os.getpid())


def open_list():
    return []


def fail_in_process_setup():
    msg = "no connection for you"
    raise PausesError(msg)


def fail_often(context):
    if context.random.random() < 0.25:
        msg = "as drawn"
        raise PausesError(msg)


def kill_own_process(context):
    if context.worker == 1 and context.random.random() < 0.02:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.001)


async def kill_own_process_in_a_task(context):
    if context.worker == 1 and context.random.random() < 0.02:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.001)


def count_calls(_worker):
    return []


def interrupt_group_at_call_50(context):
    """Press Ctrl-C, as a terminal does: for every process of the group."""
    context.state.append(None)
    if context.worker == 0 and len(context.state) == 50:
        os.kill(0, signal.SIGINT)
    time.sleep(0.001)


async def interrupt_group_in_a_task_at_call_50(context):
    """The same from a task of an event loop."""
    context.state.append(None)
    if context.worker == 0 and len(context.state) == 50:
        os.kill(0, signal.SIGINT)
    await asyncio.sleep(0.001)
