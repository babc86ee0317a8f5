"""NVIDIA's pickles of StyleGAN2: read without running a word of them, or refused in one line."""

import io
import os
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from nvidia_files import Claims, EasyDict, Layer, Network, Persistent, refusal, same, saved, storage_bytes, written
from pixgraft.errors import PixgraftError
from pixgraft.layouts import nvidia_pickle
from pixgraft.layouts.nvidia_pickle import read_nvidia_pickle


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_published_file_is_read(tmp_path: Path, protocol: int) -> None:
    keywords = {
        "c_dim": 0, "img_resolution": 8, "gain": np.sqrt(2), "size": np.arange(6).reshape(2, 3),
        "mapping_kwargs": EasyDict(num_layers=2, activation="lrelu"), "resample_filter": [1, 3, 3, 1], "clamp": None,
    }  # fmt: skip
    networks = {name: Network(**keywords) for name in ("G", "D", "G_ema")}
    content = {
        "training_set_kwargs": EasyDict(path="x.zip", use_labels=False), **networks, "augment_pipe": Layer(2),
        "order": OrderedDict(a=1), "odd": {1, 2},
    }  # fmt: skip
    before = set(sys.modules)
    found = read_nvidia_pickle(written(tmp_path, content, protocol))
    assert list(found) == ["G", "D", "G_ema"]
    assert set(sys.modules) == before  # nothing was imported
    for name, network in networks.items():
        assert found[name].class_name == "Generator"
        assert same(found[name].tensors, network)
        assert found[name].tensors["b4.weight"].is_contiguous()
        assert not found[name].tensors["b4.weight"].requires_grad
        arguments = found[name].init_args
        assert arguments == {**keywords, "size": [[0, 1, 2], [3, 4, 5]], "width": 3}
        assert type(arguments["gain"]) is float
        assert type(arguments["mapping_kwargs"]) is dict


def test_a_file_with_the_average_alone_is_read(tmp_path: Path) -> None:
    network = Network()
    found = read_nvidia_pickle(written(tmp_path, {"G": None, "G_ema": network}))
    assert list(found) == ["G_ema"]
    assert same(found["G_ema"].tensors, network)


def test_networks_that_are_one_object_are_read(tmp_path: Path) -> None:
    network = Network(1000)  # so large that most bytes of the file are its tensors
    found = read_nvidia_pickle(written(tmp_path, {"G": network, "G_ema": network}))
    assert list(found) == ["G", "G_ema"]
    assert all(same(each.tensors, network) for each in found.values())
    other = Network(1000)
    other.b8 = network.b8  # a part that two networks share
    assert same(read_nvidia_pickle(written(tmp_path, {"G": network, "G_ema": other}))["G_ema"].tensors, other)


class Runs:
    """Pickled as a call of os.system, which leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.mark}'",)


def with_storage(network: Network, data: bytes) -> bytes:
    """The network's file, with other bytes for the storage of its w_avg."""
    own = storage_bytes(network.w_avg)
    # the key is an address, which another pickling may change
    whole = saved({"G_ema": network})
    at = whole.rindex(own[:60])
    start, length = at - 4, struct.unpack("<I", whole[at - 4 : at])[0]
    assert whole[start - 1 : start] == b"B"
    return whole[:start] + struct.pack("<I", len(data)) + data + whole[start + 4 + length :]


def place_in_attribute(network: Network, call: Runs) -> object:
    network.b4.__dict__["anything"] = call
    return {"G_ema": network}


def place_in_buffers(network: Network, call: Runs) -> object:
    network.b4._buffers["x"] = call  # type: ignore[assignment]
    return {"G_ema": network}


def place_in_arguments(network: Network, call: Runs) -> object:
    network._init_kwargs["x"] = [call]
    return {"G_ema": network}


PLACES: list[Callable[[Network, Runs], object]] = [
    lambda network, call: call,
    lambda network, call: {"G_ema": network, "augment_pipe": call},
    lambda network, call: {"G_ema": network, "training_set_kwargs": EasyDict(x=(call,))},
    lambda network, call: {"G_ema": call},
    place_in_attribute,
    place_in_buffers,
    place_in_arguments,
    lambda network, call: with_storage(network, pickle.dumps(call, 2)),
    lambda network, call: with_storage(network, storage_bytes(network.w_avg)[:15] + pickle.dumps(call, 2)),
    lambda network, call: with_storage(network, zipped({"x": call})),
]


def zipped(content: object) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.mark.parametrize("place", range(len(PLACES)))
def test_what_a_file_names_is_never_run(tmp_path: Path, place: int) -> None:
    mark = tmp_path / "mark"
    content = PLACES[place](Network(), Runs(mark))
    text = refusal(tmp_path, content)
    assert not mark.exists()
    if place < len(PLACES) - 1:  # the last hides it in an archive, which is not opened at all
        assert "nothing of it was run" in text
        assert f"names '{os.system.__module__}.system'" in text
    raw = content if isinstance(content, bytes) else saved(content)
    assert b"system" in raw or place == len(PLACES) - 1
    if place < 4:  # the trap would have worked
        pickle.loads(saved(Runs(mark)))
        assert mark.exists()


def test_pickles_in_bytes_and_names_by_attributes_are_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Nested:
        def __reduce__(self) -> Any:
            return pickle.loads, (pickle.dumps(Runs(mark)),)

    assert "_pickle.loads" in refusal(tmp_path, {"G_ema": Network(), "x": Nested()})
    for name in ("builtins eval", "torch.storage _load_from_bytes.__globals__", "collections OrderedDict.__init__"):
        text = refusal(tmp_path, b"\x80\x04c" + name.replace(" ", "\n").encode() + b"\n.")
        assert "nothing of it was run" in text
    for odd in (b"\x80\x04cos\nsystem\x1b[2J\n.", b"\x80\x04\x8c\x02o\n\x8c\x01x\x93."):
        assert "\x1b" not in refusal(tmp_path, odd)
    assert not mark.exists()


def test_opcodes_that_published_files_do_without_are_refused(tmp_path: Path) -> None:
    for name, data in {
        "INST": b"\x80\x02(ios\nsystem\n.", "OBJ": b"\x80\x02(o.", "EXT1": b"\x80\x02\x82\x01.",
        "NEWOBJ_EX": b"\x80\x04\x92.", "PERSID": b"\x80\x02Px\n.", "DUP": b"\x80\x02N2.",
    }.items():  # fmt: skip
        assert f"uses {name}, which" in refusal(tmp_path, data)


class Version5(Network):
    def __reduce__(self) -> Any:
        function, (meta,), _ = super().__reduce__()
        return function, ({**meta, "version": 5},), None


class Input(Layer):
    class_name = "SynthesisInput"


def test_networks_that_do_not_fit_are_told_apart(tmp_path: Path) -> None:
    third = Network()
    third.b4.input = Input(2)
    assert "a StyleGAN3" in refusal(tmp_path, {"G_ema": third})
    assert "G_ema is a conditional model (c_dim 10)" in refusal(tmp_path, {"G_ema": Network(c_dim=10)})
    assert "D is a conditional model (c_dim 4)" in refusal(tmp_path, {"D": Network(c_dim=np.int64(4))})
    unnamed = Network()
    unnamed._init_args = (3,)
    assert "unnamed arguments" in refusal(tmp_path, {"G": unnamed})
    assert "another version" in refusal(tmp_path, {"G": Version5()})


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    assert "TensorFlow's" in refusal(tmp_path, b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00)\x81.")
    assert "TensorFlow's" in refusal(tmp_path, b"\x80\x02ctfutil\nNetwork\nq\x00)\x81.")
    assert "a web page" in refusal(tmp_path, b"\n<!DOCTYPE html><title>Quota exceeded</title>")
    assert "no pickle of stylegan2-ada-pytorch" in refusal(tmp_path, b"")
    assert "no pickle of stylegan2-ada-pytorch" in refusal(tmp_path, zipped({"g_ema": {}}))
    assert "a pickle of a list" in refusal(tmp_path, [1, 2])
    assert "without G, D or G_ema" in refusal(tmp_path, {"state": {}})
    assert "no call of torch_utils.persistence" in refusal(tmp_path, {"G": {"w": 1}})
    with pytest.raises(PixgraftError, match="No such file"):
        read_nvidia_pickle(tmp_path / "none.pkl")
    with pytest.raises(PixgraftError, match="cannot be read"):
        read_nvidia_pickle(tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia_pickle, "MAX_BYTES", 1000)
    assert "bytes, more than the 1,000 allowed" in refusal(tmp_path, {"G_ema": Network()})


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = saved({"G_ema": Network()})
    for length in range(0, len(whole), max(1, len(whole) // 150)):
        assert "cut short" in refusal(tmp_path, whole[:length])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_any_damage_is_read_or_refused(tmp_path: Path, place: float, value: int) -> None:
    whole = tmp_path / "whole"
    if not whole.exists():
        whole.write_bytes(saved({"G_ema": Network()}))
    data = bytearray(whole.read_bytes())
    data[int(place * len(data))] = value
    try:
        networks = read_nvidia_pickle(written(tmp_path, bytes(data)))
    except PixgraftError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(tensor, Tensor) for tensor in networks["G_ema"].tensors.values())


@pytest.mark.parametrize(
    ("size", "stride", "offset", "said"),
    [
        ((10**9, 10**9), (0, 0), 0, "larger than their bytes"),
        ((7,), (1,), 0, "larger than their bytes"),
        ((6,), (1,), 1, "larger than their bytes"),
        ((2, 2), (5, 1), 0, "larger than their bytes"),
        ((-1,), (1,), 0, "a tensor without sense"),
        ((2,), (-1,), 1, "a tensor without sense"),
        ((2,), (1,), -1, "a tensor without sense"),
        ((2.0,), (1,), 0, "a tensor without sense"),
        ((2,), (1, 1), 0, "a tensor without sense"),
        ((1,) * 9, (1,) * 9, 0, "a tensor without sense"),
        ("2", "1", 0, "a tensor without sense"),
        (2, 1, 0, "damaged"),
    ],
)
def test_a_tensor_larger_than_its_storage_is_refused(
    tmp_path: Path, size: object, stride: object, offset: object, said: str
) -> None:
    network = Network()
    network._buffers["w_avg"] = Claims(storage_bytes(torch.arange(6.0)), size, stride, offset)  # type: ignore[assignment]
    assert said in refusal(tmp_path, {"G": network})
    network._buffers["w_avg"] = Claims(storage_bytes(torch.arange(6.0)), (2, 3), (1, 2))  # type: ignore[assignment]
    found = read_nvidia_pickle(written(tmp_path, {"G": network}))["G"].tensors["w_avg"]
    assert found.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_a_storage_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    network = Network()
    honest = storage_bytes(torch.arange(6.0))
    at = honest.index(b"K\x06N")
    many = honest[:at] + b"J\xff\xff\xff\x7fN" + honest[at + 3 :]
    counted = many.replace(struct.pack("<q", 6), struct.pack("<q", 2**31 - 1))
    other = honest.replace(struct.pack("<q", 6), struct.pack("<q", 7))
    big_endian = honest.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89")
    assert big_endian != honest
    for data in (many, counted, other, big_endian, honest[:-1], honest + b"\0", honest[:30], b""):
        network._buffers["w_avg"] = Claims(data, (6,), (1,))  # type: ignore[assignment]
        assert refusal(tmp_path, {"G": network})


def test_short_files_that_describe_endless_networks_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nvidia_pickle, "_MAX_PARTS", 50_000)
    network = Persistent()
    for _ in range(60):  # each holds the one below twice
        above = Persistent()
        above.one, above.two = network, network
        network = above
    text = refusal(tmp_path, {"G": network})
    del network  # which pytest would print to its end, were the test to fail
    assert "more than 50,000 values" in text

    network = Network()
    for _ in range(2):
        above = Persistent()
        setattr(above, "a" * 600, network)
        network = above
    assert "a name of more than 1,000 characters" in refusal(tmp_path, {"G": network})

    laughs: list[Any] = [0]
    for _ in range(60):
        laughs = [laughs, laughs]
    text = refusal(tmp_path, {"G": Network(x=laughs)})
    del laughs
    assert "more than 50,000 values" in text

    many = Network()
    many._init_kwargs = dict.fromkeys(map(str, range(2000)), np.arange(2000))
    assert "more than 50,000 values" in refusal(tmp_path, {"G": many})

    itself = Network()
    itself._init_kwargs["x"] = itself._init_kwargs
    assert "damaged" in refusal(tmp_path, {"G": itself})
    assert "more than 50,000 steps" in refusal(tmp_path, b"\x80\x04" + b"}" * 60_000 + b".")


def test_many_views_of_one_storage_are_refused(tmp_path: Path) -> None:
    network = Network()
    data = storage_bytes(torch.arange(10_000.0))
    for view in range(200):
        network._buffers[f"x{view}"] = Claims(data, (100, 100), (1, 100))  # type: ignore[assignment]
    assert len(saved({"G": network})) < 200_000
    assert "larger than their bytes in the file" in refusal(tmp_path, {"G": network})


def test_a_storage_is_read_once_however_often_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Persistent()
    data = storage_bytes(torch.arange(100.0))
    for view in range(20):  # which take no bytes themselves
        network._buffers[f"x{view}"] = Claims(data, (0, 2), (1, 1))  # type: ignore[assignment]
    made: list[int] = []
    real = torch.frombuffer

    def counted(buffer: bytearray, dtype: torch.dtype) -> Tensor:
        made.append(len(buffer))
        return real(buffer, dtype=dtype)

    file = written(tmp_path, {"G": network})
    monkeypatch.setattr(torch, "frombuffer", counted)
    found = read_nvidia_pickle(file)["G"].tensors
    assert [tuple(tensor.shape) for tensor in found.values()] == [(0, 2)] * 20
    assert made == [400]


def test_opcodes_that_ask_for_memory_get_none(tmp_path: Path) -> None:
    deep = b")" + b"\x85" * 200_000  # a tuple in a tuple in a tuple
    for data in (
        b"\x80\x04}" + deep + b"Ns.",  # hashed as a key, it would overflow the stack
        b"\x80\x04\x8f(" + deep + b"\x90.",
        b"\x80\x04N\x8e" + struct.pack("<Q", 2**62) + b".",  # bytes that are not there
        b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    ):
        assert "damaged" in refusal(tmp_path, data)
    # a place in the memo far behind the last one, for which CPython's unpickler makes room
    found = read_nvidia_pickle(
        written(tmp_path, saved({"G": Network()}, 3).replace(b"}q\x00", b"}r\xff\xff\xff\xff", 1))
    )
    assert list(found) == ["G"]
