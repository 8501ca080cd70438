"""NVlabs' pickles: read for any network, in any protocol; whatever else a pickle may do is refused, and not done."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from ddpm_seg.model.published.nvlabs.pickle import Array, read_nvlabs_pickle
from ddpm_seg.model.published.stylegan2 import load_stylegan2
from tests.model.networks.style.test_stylegan2 import generator
from tests.model.published.nvlabs_files import Call, Name, ada, pickled, stored, tensorflow
from tests.model.recorded_gans import GOLDEN

CONFIGS = [
    StyleGAN2Config(image_size=4, channels=(5,), mapping=(6, 7)),
    StyleGAN2Config(image_size=16, channels=(12, 8, 10), mapping=(6, 9, 7)),
    StyleGAN2Config(image_size=64, channels=(8, 6, 6, 4, 2), mapping=(8,) * 9),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config.image_size))
@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("write", [ada, tensorflow])
def test_a_network_of_any_size_is_read(tmp_path: Path, config: StyleGAN2Config, protocol: int, write: Any) -> None:
    weights = dict(generator(config).state_dict())
    path = tmp_path / "network-snapshot-025000.pkl"
    path.write_bytes(pickled(write(weights), protocol))
    found, tensors, notes = load_stylegan2(str(path))
    assert (found, notes) == (config, {})
    assert tensors.keys() == weights.keys()
    for key, value in weights.items():
        torch.testing.assert_close(tensors[key], value, rtol=0, atol=1e-6 if key.endswith("modulation.bias") else 0)


def test_conv_clamp_stands_in_the_layers(tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(pickled(ada(dict(generator(CONFIGS[1]).state_dict()), clamp=256)))
    assert load_stylegan2(str(path))[0].conv_clamp == 256.0


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (lambda w: ada(w, c_dim=10), "c_dim is 10: it draws by class"),
        (lambda w: ada(w, architecture="resnet"), "its architecture is 'resnet'; only 'skip'"),
        (lambda w: ada(w, rate=0.1), r"mapping\.fc.\.bias_gain is 0\.1, expected 0\.01"),
        (lambda w: tensorflow(w, label_size=3), "label_size is 3: it draws by class"),
        (lambda w: tensorflow(w, architecture="orig"), "its architecture is 'orig'; only 'skip'"),
        (
            lambda w: tensorflow(w, resample_kernel=[1, 2, 1]),
            r"resample_kernel is \[1, 2, 1\], expected \[1, 3, 3, 1\]",
        ),
        (lambda w: ada({**w, "style.2.weight": torch.zeros(4)}), r"style\.2\.weight is \(4,\)|mapping network"),
        (lambda w: {"G": None}, "expected NVlabs' networks, a dictionary with G_ema .*got a dictionary with G"),
        (lambda w: [1, 2], "expected NVlabs' networks.*got a list"),
        (lambda w: 3, "got a int"),
    ],
)
def test_other_networks_are_named(tmp_path: Path, content: Any, named: str) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(pickled(content(dict(generator(CONFIGS[1]).state_dict()))))
    with pytest.raises(ValueError, match=rf"network\.pkl.*({named})"):
        load_stylegan2(str(path))


def test_every_name_stands_for_something_new() -> None:
    """A pickle may write attributes on what a name leads to: nothing of that is left for the next file."""
    names = [
        ("numpy", "ndarray"),
        ("collections", "OrderedDict"),
        ("numpy.core.multiarray", "scalar"),
        ("torch._utils", "_rebuild_parameter"),
    ]
    data = pickled([Name(*name) for name in names])
    first, second = (read_nvlabs_pickle(io.BytesIO(data), "x") for _ in range(2))
    assert not any(one is two for one, two in zip(first, second, strict=True))
    assert not {id(np.ndarray), id(pickle.loads(pickle.dumps(dict)))} & {id(one) for one in first}


DTYPE = Call("numpy", "dtype", "f4", False, True, state=(3, "<", None, None, None, -1, -1, 0))
OBJECTS = Call("numpy", "dtype", "O8", False, True, state=(3, "|", None, None, None, -1, -1, 63))


def array(shape: Any, dtype: Call, data: Any) -> Call:
    return Call(
        "numpy.core.multiarray",
        "_reconstruct",
        Name("numpy", "ndarray"),
        (0,),
        b"b",
        state=(1, shape, dtype, False, data),
    )


def tensor(shape: Any, strides: Any, storage: Call | None = None, offset: int = 0) -> Call:
    storage = storage or stored(storage_bytes(torch.zeros(4)))
    return Call("torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, False, {})


def storage_bytes(values: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(values._typed_storage(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def evil_storage(function: Any, *arguments: Any) -> bytes:
    """Where a storage is expected, `torch.save` of what calls a function; in its old form as NVlabs' files have it."""
    file = io.BytesIO()
    torch.save(Evil(function, *arguments), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


HOSTILE: dict[str, tuple[bytes, str]] = {
    "eval": (pickle.dumps(Evil(eval, "open('trace', 'w')")), r"refused: it needs builtins\.eval"),
    "eval, oldest protocol": (pickle.dumps(Evil(eval, "open('trace', 'w')"), 0), r"it needs __builtin__\.eval"),
    "os.system": (pickle.dumps(Evil(os.system, "touch trace")), r"refused: it needs posix\.system"),
    "os.system by name": (b"cos\nsystem\n(S'touch trace'\ntR.", r"refused: it needs os\.system"),
    "an instance": (b"(S'touch trace'\nios\nsystem\n.", r"refused: it needs os\.system"),
    "a name in G_ema": (pickled({"G_ema": Call("os", "system", "touch trace")}), r"refused: it needs os\.system"),
    "a name with dots": (pickled(Call("torch", "serialization.load", "trace")), r"needs torch\.serialization\.load"),
    "an extension": (b"\x80\x02\x82\x01.", "not a pickle of NVlabs'"),
    "an object array": (pickled(array((1,), OBJECTS, [None])), "a numpy array of type object"),
    "an object scalar": (pickled(Call("numpy.core.multiarray", "scalar", OBJECTS, b"")), "of type object"),
    "a storage with os.system": (
        pickled({"G_ema": stored(evil_storage(os.system, "touch trace"))}),
        r"refused: a storage in it: .*posix\.system",
    ),
    "a storage with eval": (
        pickled(tensor((4,), (1,), stored(evil_storage(eval, "open('trace', 'w')")))),
        r"refused: a storage in it: .*eval",
    ),
    "a storage that is a pickle": (
        pickled(stored(pickle.dumps(Evil(os.system, "touch trace")))),
        "refused: a storage in it",
    ),
    "a storage that is a dictionary": (pickled(stored(evil_storage(OrderedDict))), "where a storage was expected"),
    "an absurd array": (
        pickled(array((2**40,), DTYPE, b"")),
        r"array of shape \(1099511627776,\) and type float32 in 0",
    ),
    "an absurd shape of no bytes": (pickled(array((2**40, 0), DTYPE, b"")), ""),
    "a negative shape": (pickled(array((-4,), DTYPE, b"\0" * 16)), r"array of shape \(-4,\)"),
    "an array called directly": (pickled(Call("numpy", "ndarray", (2**34,), DTYPE)), "not a pickle of NVlabs'"),
    "an absurd tensor": (pickled(tensor((2**40,), (1,))), r"tensor of shape \(1099511627776,\) that is larger"),
    "an absurd tensor of one number": (pickled(tensor((2**40,), (0,))), "larger than its storage"),
    "a tensor beyond its storage": (pickled(tensor((2, 2), (2, 1), offset=3)), "larger than its storage"),
    "a tensor before its storage": (pickled(tensor((2,), (1,), offset=-1)), "larger than its storage"),
    "one storage read many times": (
        pickled([stored(data) for data in [storage_bytes(torch.zeros(1000))] * 100]),
        "bytes that unpack to more",
    ),
    "bytes after the end": (pickle.dumps(3) + b"x", "refused: it has more bytes after its end"),
    "an absurd memo": (b"\x80\x04Nr\x00\x00\x00\x7f.", "it stores its object 0 as number 2130706432"),
    "an absurd length": (b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"abc.", "damaged"),
    "an absurd bytearray": (b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"abc.", "damaged"),
    "tuples in tuples": (b"\x80\x04})" + b"\x85" * 10**6 + b"Ns.", "operations|more than 20000 tuples"),
    "sets in sets": (b"\x80\x04}(\x91" + b"0(h\x00\x91" * 50_000 + b"Ns.", "refused|damaged"),
    "lists without end": (b"\x80\x04(" + b"]" * 10**7 + b"l.", "more than 1000000 operations"),
    "dictionaries copied": (
        pickled([Call("collections", "OrderedDict", entries) for entries in [{str(i): i for i in range(9999)}] * 999]),
        "not a pickle of NVlabs'",
    ),
    "a module in itself": (
        b"\x80\x04}\x8c\x05G_emac" + b"torch_utils.persistence\n_reconstruct_persistent_obj\n"
        b"}\x8c\x05state}\x94\x8c\x08_modules}\x94ss\x85R\x94h\x01\x8c\x01mh\x02s0s.",
        "expected a module of its own",
    ),
    "another protocol": (b"\x80\x63N.", "not a pickle of NVlabs'"),
    "nothing": (b"", "empty file"),
    "text": (b"hello, this is no pickle\n", "not a pickle of NVlabs'"),
    "a web page": (b"<!DOCTYPE html><html>", "a web page"),
}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in HOSTILE.items()])
def test_whatever_else_a_pickle_does_is_refused(
    tmp_path: Path, case: tuple[bytes, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ffhq.pkl"
    path.write_bytes(case[0])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=rf"ffhq\.pkl.*({case[1]})"):
        load_stylegan2(str(path))
    assert list(Path.cwd().iterdir()) == []
    assert not {"dnnlib", "torch_utils"} & sys.modules.keys()


def test_hostile_files_take_no_memory(tmp_path: Path) -> None:
    """Under 1 GB for any of them, torch and all."""
    for number, (data, _) in enumerate(HOSTILE.values()):
        (tmp_path / f"{number}.pkl").write_bytes(data)
    code = (
        "import sys\n"
        "from ddpm_seg.model.published.stylegan2 import load_stylegan2\n"
        "from tests.memory import peak_memory\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        load_stylegan2(path)\n"
        "    except ValueError:\n"
        "        continue\n"
        "    raise AssertionError(path)\n"
        "print(peak_memory())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1e9


@pytest.mark.parametrize("name", ["nv_32", "tf_32"])
def test_a_cut_file_names_itself(tmp_path: Path, name: str) -> None:
    data = (GOLDEN / f"{name}.pkl").read_bytes()
    for size in (1, 10, len(data) // 3, len(data) // 2, len(data) - 1):
        path = tmp_path / f"{size}.pkl"
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=rf"{size}\.pkl: not a pickle of NVlabs', or a damaged one"):
            load_stylegan2(str(path))


def test_changed_bytes_are_refused_or_read(tmp_path: Path) -> None:
    """Nothing but ValueError, whatever changes."""
    data, random = (GOLDEN / "nv_32.pkl").read_bytes(), np.random.default_rng(0)
    path, outcomes = tmp_path / "network.pkl", set()
    for _ in range(150):
        changed = bytearray(data)
        for position in random.integers(0, len(data), random.integers(1, 4)):
            changed[position] = random.integers(256)
        path.write_bytes(changed)
        try:
            load_stylegan2(str(path))
            outcomes.add("read")
        except ValueError as error:
            outcomes.add("refused" if str(path) in str(error) else str(error))
    assert outcomes == {"read", "refused"}


def test_arrays_of_any_order() -> None:
    """Of big-endian machines, and of Fortran's order."""
    big = Call("numpy", "dtype", "f4", False, True, state=(3, ">", None, None, None, -1, -1, 0))
    values = np.arange(6, dtype=">f4").reshape(2, 3)
    found = read_nvlabs_pickle(io.BytesIO(pickled(array((2, 3), big, values.tobytes()))), "x")
    assert isinstance(found, Array)
    np.testing.assert_array_equal(found.value, values)
