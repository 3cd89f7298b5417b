"""Decoders: what a process can do that is taken over, hangs or breaks while it decodes; and whose turn is next."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.core.errors import BadImage, Overloaded
from service.files import images_turns
from service.files.images import PROJECT_FOLDER, Decoders
from service.files.images_sizes import Size
from service.files.images_turns import Turns
from tests.images import is_upright, opened, photo, png_of_zeros
from tests.waiting import until

pytestmark = pytest.mark.once

THUMB = Size("thumb", 32, 32, True)
SETTINGS = {"FILES_PIXELS": 1_000_000, "FILES_DECODERS": 4, "FILES_IMAGE_SECONDS": 1}
TAKEN_OVER = f"""
import sys
sys.path.insert(0, {str(PROJECT_FOLDER)!r})
import ctypes, os, signal, socket, threading, time
from service.files import images_program, images_work

def spin():
    while True:
        pass

def wait():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def take_over(file, task):
    exec(file.read().decode(), globals())
    return repr(found()).encode()

images_work.render = take_over
images_program.main()
"""
"""The program, with decoders that do what the image says: what a mistake in one of them would let somebody do."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and filters of system calls are Linux's")


class TakenOver(Decoders):
    code = TAKEN_OVER


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    decoders = Decoders(SETTINGS)
    yield decoders
    decoders.close()


@pytest.fixture(scope="module")
def taken_over() -> Iterator[Decoders]:
    decoders = TakenOver(SETTINGS)
    yield decoders
    decoders.close()


def found(decoders: Decoders, expression: str) -> str:
    """What an expression is in a process that decodes; the name of what it raises there."""
    script = f"def found():\n    try: return {expression}\n    except BaseException as e: return type(e).__name__"
    return decoders.render([script.encode()], THUMB, "image/webp").decode()


# What is made


def test_a_smaller_image_is_made_in_another_process(decoders: Decoders) -> None:
    assert is_upright(opened(decoders.render([photo("JPEG", 6)], THUMB, "image/png")), far=40)


def test_bytes_may_come_in_any_pieces(decoders: Decoders) -> None:
    whole = photo("AVIF")
    assert opened(decoders.render((whole[n : n + 7] for n in range(0, len(whole), 7)), THUMB, "image/png"))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (png_of_zeros(2000, 1000), "2000 x 1000 pixels; at most 1000000 are decoded"),
        (photo("JPEG")[:900], "broken"),
        (b"<svg/>", "broken, or its format is not one that is read"),
        (bytes(8_000_001), "more than 8000000 bytes"),
    ],
)
def test_what_is_not_made_is_told_in_a_sentence(decoders: Decoders, data: bytes, sentence: str) -> None:
    with pytest.raises(BadImage, match=sentence):
        decoders.render([data], THUMB, "image/webp")


def test_many_threads_make_theirs_at_once(decoders: Decoders) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda _: decoders.render([photo("PNG")], THUMB, "image/png"), range(24))
        assert all(is_upright(opened(data)) for data in made)


# What a decoder that was taken over can do


@linux
@pytest.mark.parametrize(
    ("tried", "comes"),
    [
        ("open('/etc/passwd').read()", "'PermissionError'"),
        ("open('/tmp/left-behind', 'w')", "'PermissionError'"),
        ("os.listdir('/')", "'PermissionError'"),
        ("socket.socket()", "'PermissionError'"),
        ("socket.create_connection(('127.0.0.1', 80))", "'PermissionError'"),
        ("os.fork()", "'PermissionError'"),
        ("os.execv('/bin/true', ['true'])", "'PermissionError'"),
        ("os.kill(os.getppid(), 9)", "'PermissionError'"),
        ("os.kill(os.getpid(), 0)", "'PermissionError'"),
        ("os.unlink('/tmp/left-behind')", "'PermissionError'"),
        ("os.getppid() and os.pipe()", "'PermissionError'"),
        ("ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)", "-1"),
        ("bytes(10**10)", "'MemoryError'"),
    ],
)
def test_it_reaches_nothing(taken_over: Decoders, tried: str, comes: str) -> None:
    assert found(taken_over, tried) == comes


def test_it_has_no_environment_and_no_descriptor_of_ours(taken_over: Decoders) -> None:
    assert found(taken_over, "[name for name in os.environ if name != 'LC_CTYPE']") == "[]"
    lseek = "ctypes.CDLL(None, use_errno=True).lseek"
    # The image, which can be sought in, and the pipe for what is made of it, which cannot.
    assert found(taken_over, f"sum({lseek}(n, 0, 1) >= 0 for n in range(3, 64))") == "1"
    assert found(taken_over, f"sum({lseek}(n, 0, 1) < 0 and ctypes.get_errno() != 9 for n in range(3, 64))") == "1"


@pytest.mark.parametrize("way", ["spin()", "wait()", "ctypes.string_at(0)", "os._exit(3)", "os.abort()"])
def test_one_that_hangs_or_breaks_takes_nobody_with_it(taken_over: Decoders, way: str) -> None:
    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        harm = pool.submit(found, taken_over, way)
        assert found(taken_over, "1 + 1") == "2"
        with pytest.raises(BadImage, match="more time or memory"):
            harm.result()
    assert time.monotonic() - begun < 10


def test_one_that_says_too_much_is_cut_off(taken_over: Decoders) -> None:
    with pytest.raises(BadImage):
        found(taken_over, "[os.write(n, bytes(10**6)) for _ in range(99) for n in (4, 5, 6, 7)]")


def test_when_the_program_dies_the_next_image_starts_another(taken_over: Decoders) -> None:
    assert found(taken_over, "1 + 1") == "2"
    assert taken_over.process is not None
    before = taken_over.process.pid
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(found, taken_over, "wait()")
        until(lambda: children(before))
        forked = children(before)
        os.kill(before, signal.SIGKILL)
        with pytest.raises(Overloaded):
            hung.result()
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in forked))
    assert found(taken_over, "2 + 2") == "4"
    assert taken_over.process.pid != before


def test_nothing_is_left_when_it_is_closed() -> None:
    decoders = TakenOver(SETTINGS)
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(found, decoders, "wait()")
        until(lambda: decoders.process is not None and children(decoders.process.pid))
        assert decoders.process is not None
        forked = [decoders.process.pid, *children(decoders.process.pid)]
        decoders.close()
        with pytest.raises((BadImage, Overloaded)):
            hung.result()
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in forked))


KILLED = f"""
import os, sys, threading, time
sys.path.insert(0, {str(PROJECT_FOLDER)!r})
from tests.test_images_decoders import SETTINGS, TakenOver, children, found
from tests.waiting import until
decoders = TakenOver({{**SETTINGS, "FILES_IMAGE_SECONDS": 60}})
threading.Thread(target=found, args=(decoders, "wait()"), daemon=True).start()
until(lambda: decoders.process and children(decoders.process.pid))
print(decoders.process.pid, *children(decoders.process.pid), flush=True)
time.sleep(60)
"""


@linux
def test_nothing_is_left_when_the_service_is_killed() -> None:
    service = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    assert service.stdout is not None
    with service, service.stdout:
        forked = service.stdout.readline().split()
        service.kill()
    assert len(forked) == 2
    until(lambda: not any(Path(f"/proc/{process}").exists() for process in forked))


def children(process: int) -> list[int]:
    """The processes that a process has forked."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


# Whose turn it is


def test_turns_go_around_the_accounts() -> None:
    asyncio.run(turns_go_around())


async def turns_go_around() -> None:
    turns, order = Turns(1), []

    async def work(account: str) -> None:
        async with turns.of(account):
            order.append(account)
            await asyncio.sleep(0)

    await asyncio.gather(*map(work, ["ada", "ada", "ada", "ada", "bob", "eve"]))
    assert order == ["ada", "ada", "bob", "eve", "ada", "ada"]
    assert (turns.free, turns.count, turns.waiting) == (1, 0, {})


def test_one_beyond_those_that_may_wait_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_turns, "MOST_IMAGES_WAITING", 2)
    asyncio.run(one_is_refused())


async def one_is_refused() -> None:
    turns = Turns(1)
    async with turns.of("ada"):
        waiting = [asyncio.create_task(turns.wait(name)) for name in ("bob", "eve")]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await turns.wait("ada")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert (turns.free, turns.count, turns.waiting) == (1, 0, {})


def test_who_waits_for_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_turns, "LONGEST_WAIT", 0.05)
    asyncio.run(one_waits_for_too_long())


async def one_waits_for_too_long() -> None:
    turns = Turns(1)
    async with turns.of("ada"):
        with pytest.raises(Overloaded):
            await turns.wait("bob")
    assert (turns.free, turns.count, turns.waiting) == (1, 0, {})


def test_a_turn_that_nobody_takes_goes_to_the_next() -> None:
    asyncio.run(one_leaves())


async def one_leaves() -> None:
    turns = Turns(1)
    async with turns.of("ada"):
        gone, next_one = (asyncio.create_task(turns.wait(name)) for name in ("bob", "eve"))
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait_for(next_one, 5)
    turns.give()
    assert (turns.free, turns.count, turns.waiting) == (1, 0, {})


def test_images_are_made_off_the_event_loop(decoders: Decoders) -> None:
    threads: list[str] = []

    def pieces() -> Iterator[bytes]:
        threads.append(threading.current_thread().name)
        yield photo("PNG")

    made = asyncio.run(decoders.rendered("ada", pieces(), THUMB, "image/png"))
    assert is_upright(opened(made))
    assert threads[0].startswith("images")
