from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.canvas import fit
from ddpm_seg.data.decoding import decoder
from ddpm_seg.data.decoding.decoder import decode_and_fit, decode_and_fit_all
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, ImageError, Limits, decode
from ddpm_seg.data.decoding.window import SIZE as WINDOW
from tests.odd_images import broken_images, encode, picture, readable_images

SIZE = 32
GOOD = encode(Image.fromarray(picture()), "PNG")
LARGE = encode(Image.new("L", (5000, 5000)), "PNG")  # 0.1 s and 250 MB to decode
SEGFAULT = "import os; print('ready', flush=True); input(); os.kill(os.getpid(), 11)"


@pytest.fixture(autouse=True)
def _no_children_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_idle", [])


def error_of(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        decode_and_fit(data, limits, SIZE, "letterbox")
    return caught.value.error_type, str(caught.value)


def child_pids() -> list[int]:
    return [child.pid for child in decoder._idle]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_child_gives_what_decode_and_fit_give() -> None:
    for data in readable_images().values():
        for size in (SIZE, (SIZE, 2 * SIZE)):
            canvas, placement = decode_and_fit(data, DEFAULT_LIMITS, size, "stretch")
            expected, expected_placement = fit(decode(data), size, "stretch")
            assert np.array_equal(canvas, expected)
            assert placement == expected_placement
    for data, error_type in broken_images().values():
        assert error_of(data)[0] == error_type
    assert len(child_pids()) == 1, "one child serves them all"


def outcome(data: bytes, limits: Limits, size: int = SIZE) -> object:
    try:
        canvas, placement = decode_and_fit(data, limits, size, "letterbox")
    except ImageError as error:
        return error.args
    return canvas.tobytes(), placement


def outcomes_together(images: list[bytes], limits: Limits, size: int = SIZE) -> list[object]:
    found = decode_and_fit_all(images, limits, size, "letterbox")
    return [one.args if isinstance(one, ImageError) else (one[0].tobytes(), one[1]) for one in found]


def test_a_forked_process_decodes_with_a_child_of_its_own() -> None:
    """As multiprocessing forks: on one child's pipes, processes would get each other's pixels."""
    decode_and_fit(GOOD, DEFAULT_LIMITS, SIZE, "letterbox")
    (mine,) = child_pids()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            same = outcome(GOOD, DEFAULT_LIMITS) == (fit(decode(GOOD), SIZE)[0].tobytes(), fit(decode(GOOD), SIZE)[1])
            status = 0 if same and len(child_pids()) == 1 and mine not in child_pids() else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert outcome(GOOD, DEFAULT_LIMITS) == (fit(decode(GOOD), SIZE)[0].tobytes(), fit(decode(GOOD), SIZE)[1])
    assert child_pids() == [mine]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_images_that_are_decoded_together_come_out_as_alone() -> None:
    images = [*readable_images().values(), *(data for data, _ in broken_images().values()), GOOD]
    assert outcomes_together(images, DEFAULT_LIMITS) == [outcome(data, DEFAULT_LIMITS) for data in images]
    assert len(child_pids()) == 1


def test_canvases_that_do_not_fit_into_shared_memory_come_out_the_same() -> None:
    side = 1600
    assert 2 * side * side * 3 < WINDOW < 3 * side * side * 3
    assert outcomes_together([GOOD] * 5, DEFAULT_LIMITS, side) == [outcome(GOOD, DEFAULT_LIMITS, side)] * 5


def test_what_was_decoded_stays_as_it_is() -> None:
    first = decode_and_fit_all([GOOD, GOOD], DEFAULT_LIMITS, SIZE, "letterbox")
    before = [one[0].copy() for one in first if not isinstance(one, ImageError)]
    decode_and_fit_all([LARGE, LARGE], DEFAULT_LIMITS, SIZE, "stretch")
    assert len(child_pids()) == 1
    for one, copy in zip(first, before, strict=True):
        assert not isinstance(one, ImageError)
        assert np.array_equal(one[0], copy)
        assert not one[0].flags.writeable


@pytest.mark.skipif(sys.platform != "linux", reason="memory has no limit elsewhere")
@pytest.mark.parametrize("limits", [Limits(decode_seconds=0.02), Limits(decode_memory=20_000_000)])
def test_an_image_that_ends_the_child_is_found_among_others(limits: Limits) -> None:
    images = [GOOD, LARGE, GOOD, b"", LARGE]
    together = outcomes_together(images, limits)
    assert together == [outcome(data, limits) for data in images]
    assert together[0] == together[2] == outcome(GOOD, DEFAULT_LIMITS)
    assert together[1] != outcome(LARGE, DEFAULT_LIMITS)


def test_an_image_that_takes_too_long_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    start = decoder._start

    def counted() -> decoder.Child:
        started.append(1)
        return start()

    monkeypatch.setattr(decoder, "_start", counted)
    assert error_of(LARGE, Limits(decode_seconds=0.02))[0] == "decode_timeout"
    assert len(started) == 1


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="not Linux")
def test_a_child_that_crashes_leaves_no_core_file() -> None:
    decode_and_fit(GOOD, DEFAULT_LIMITS, SIZE, "stretch")
    (pid,) = child_pids()
    (limit,) = (line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max core"))
    assert limit.split()[4:6] == ["0", "0"]


def test_threads_have_a_child_each_and_their_own_answers() -> None:
    sizes = [(height, width) for height in range(5, 13) for width in (7, 30)]
    files = [encode(Image.fromarray(picture(*size)), "PNG") for size in sizes]
    with ThreadPoolExecutor(3) as pool:
        placements = [p for _, p in pool.map(lambda data: decode_and_fit(data, DEFAULT_LIMITS, SIZE, "stretch"), files)]
    assert [(one.image_height, one.image_width) for one in placements] == sizes
    assert 1 <= len(child_pids()) <= 3


def test_an_image_that_takes_too_long_is_an_error_and_the_next_is_read() -> None:
    limits = Limits(decode_seconds=0.02)
    assert error_of(LARGE, limits) == ("decode_timeout", "decoding takes more than 0.02 s of processor time")
    assert decode_and_fit(GOOD, DEFAULT_LIMITS, SIZE, "letterbox")[1].image_width == 56
    assert decode_and_fit(LARGE, DEFAULT_LIMITS, SIZE, "letterbox")[1].image_width == 5000


def test_a_child_that_hangs_ends_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    # A decoder's heap that is damaged may wait for its own lock for ever, and uses no processor time then.
    hang = "import time; from ddpm_seg.data.decoding import child; child.decode = lambda *_: time.sleep(60);"
    monkeypatch.setattr(decoder, "_COMMAND", (sys.executable, "-c", hang + "child.serve()"))
    assert error_of(GOOD, Limits(decode_seconds=0.02))[0] == "decode_timeout"


@pytest.mark.skipif(sys.platform != "linux", reason="memory has no limit elsewhere")
def test_an_image_that_takes_too_much_memory_is_an_error_and_the_next_is_read() -> None:
    limits = Limits(decode_memory=20_000_000)
    assert error_of(LARGE, limits) == ("out_of_memory", "decoding needs more than 20000000 bytes of memory")
    for data in (GOOD, LARGE):
        decode_and_fit(data, DEFAULT_LIMITS, SIZE, "letterbox")
    assert error_of(LARGE, limits)[0] == "out_of_memory", "a limit lasts as long as the image it came with"


def test_an_image_is_not_blamed_for_a_child_that_someone_killed() -> None:
    decode_and_fit(GOOD, DEFAULT_LIMITS, SIZE, "letterbox")
    (pid,) = child_pids()
    os.kill(pid, 9)
    for data in (LARGE, GOOD):
        decode_and_fit(data, DEFAULT_LIMITS, SIZE, "letterbox")
    assert child_pids() != [pid]
    assert not Path(f"/proc/{pid}").exists(), "it was waited for"


def test_an_image_that_crashes_a_fresh_child_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_COMMAND", (sys.executable, "-c", SEGFAULT))
    assert error_of(GOOD) == ("decoder_crashed", "the file crashes the decoder")
    assert error_of(LARGE)[0] == "decoder_crashed"
    assert child_pids() == []


def test_that_no_child_can_be_started_is_no_images_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(RuntimeError, match="ended with 3"):
        decode_and_fit(GOOD, DEFAULT_LIMITS, SIZE, "letterbox")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_is_light_and_inherits_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    decode_and_fit(GOOD, DEFAULT_LIMITS, SIZE, "letterbox")
    process = Path(f"/proc/{child_pids()[0]}")
    assert b"secret-of-the-test" not in (process / "environ").read_bytes()
    loaded = (process / "maps").read_text()
    assert "libtorch" not in loaded
    assert "_raylet" not in loaded


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_ends_with_its_parent() -> None:
    parent = (
        "import os, sys; from ddpm_seg.data.decoding import decoder;"
        "from ddpm_seg.data.decoding.images import DEFAULT_LIMITS;"
        "decoder.decode_and_fit(sys.stdin.buffer.read(), DEFAULT_LIMITS, 32, 'letterbox');"
        "print(decoder._idle[0].pid, flush=True); os.kill(os.getpid(), 9)"
    )
    result = subprocess.run([sys.executable, "-c", parent], input=GOOD, capture_output=True, check=False)
    for _ in range(600):
        if not Path(f"/proc/{int(result.stdout)}").exists():
            return
        time.sleep(0.1)
    pytest.fail("the child outlives its parent by a minute")


def test_inside_a_ray_worker(ray_cluster: str) -> None:
    import ray

    def outcomes(files: list[tuple[bytes, Limits]]) -> list[str]:
        found = []
        for data, limits in files:
            try:
                found.append(str(decode_and_fit(data, limits, SIZE, "letterbox")[0].shape))
            except ImageError as error:
                found.append(error.error_type)
        return found

    files = [(GOOD, DEFAULT_LIMITS), (LARGE, Limits(decode_seconds=0.02)), (LARGE[:99], DEFAULT_LIMITS)]
    # Ray must leave the children's exit codes to their parent.
    assert ray.get(ray.remote(outcomes).remote(files)) == [f"({SIZE}, {SIZE}, 3)", "decode_timeout", "truncated"]


LIMITED = """
import io, resource, sys
from PIL import Image
from ddpm_seg.data.decoding.decoder import decode_and_fit_all
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS
bytes_of = io.BytesIO()
Image.new("RGB", (90, 90), "red").save(bytes_of, "PNG")
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]),) * 2)
try:
    found = decode_and_fit_all([bytes_of.getvalue()] * 5, DEFAULT_LIMITS, 90, "stretch")
    print(sum(canvas[..., 0].min() == 255 for canvas, _ in found))
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("limit", "value", "said"),
    [
        ("RLIMIT_FSIZE", 50_000, "5"),  # room for two of the five canvases
        ("RLIMIT_FSIZE", 1, "5"),
        ("RLIMIT_NOFILE", 5, "the process that decodes images does not start: [Errno 24] Too many open files"),
    ],
)
def test_limits_of_the_user_are_no_fault_of_an_image(limit: str, value: int, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, limit, str(value)], capture_output=True, text=True)
    assert done.stdout.strip() == said, done.stderr
