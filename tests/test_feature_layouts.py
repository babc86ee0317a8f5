"""Published state dicts of feature networks: their names and shapes, and what does not fit, refused in one line."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pixgraft.errors import PixgraftError
from pixgraft.layouts import LAYOUTS, from_state_dicts
from pixgraft.layouts.features import lpips_from_trunk
from pixgraft.networks.inception import InceptionV3
from pixgraft.networks.irse import IRSE50
from pixgraft.networks.lpips import TAPS, TRUNKS, Trunk
from pixgraft.networks.mobilefacenet import MobileFaceNet
from pixgraft.networks.resnet import ResNet
from pixgraft.networks.squeezenet import SqueezeNet
from pixgraft.networks.trunks import squeezenet1_0
from pixgraft.networks.vgg import VGG16
from test_feature_networks import KINDS, Tensors, heads, lpips, made, random_trunk
from test_oracles import distance

BUILT: dict[str, Callable[[], nn.Module]] = {
    "inception-fid": InceptionV3,
    "inception-torchvision": InceptionV3,
    "vgg16": VGG16,
    "squeezenet": SqueezeNet,
    "mobilefacenet": MobileFaceNet,
    "irse50": IRSE50,
    "resnet": lambda: ResNet(depth=34),
}


def shapes(layout: str) -> dict[str, torch.Size]:
    """The names and shapes of our network, which are the published ones."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in BUILT[layout]().state_dict().items()}


def stand_ins(layout: str) -> Tensors:
    """Tensors of these names and shapes that take no memory."""
    if layout == "lpips":
        trunk = {f"net.slice1.{name}": tensor for name, tensor in TRUNKS["alex"]().state_dict().items()}
        return {**trunk, **heads("alex")}
    unused = {"AuxLogits.fc.weight": torch.zeros(8, 2)} if layout == "inception-torchvision" else {}
    return unused | {name: torch.zeros(()).expand(shape) for name, shape in shapes(layout).items()}


EXAMPLES = {
    "inception-fid": "Mixed_7c.branch3x3dbl_3b.bn.running_var",
    "inception-torchvision": "Mixed_7c.branch3x3dbl_3b.bn.running_var",
    "vgg16": "classifier.3.weight",
    "squeezenet": "features.12.expand3x3.bias",
    "mobilefacenet": "blocks.14.conv.5.weight",
    "irse50": "body.21.shortcut_layer.0.weight",
    "resnet": "layer2.0.downsample.0.weight",
    "lpips": "lin4.model.1.weight",
}
"""A tensor of each layout, as it is published."""


def test_each_layout_has_an_example() -> None:
    assert EXAMPLES.keys() == {name for name, layout in LAYOUTS.items() if layout.model is None}


@pytest.mark.parametrize("layout", EXAMPLES)
def test_tensors_that_do_not_fit_are_named(layout: str) -> None:
    name = EXAMPLES[layout]
    sound = stand_ins(layout)
    assert name in sound

    def refused(tensors: Tensors) -> str:
        with pytest.raises(PixgraftError) as caught:
            from_state_dicts(layout, {"theirs": tensors})
        assert "\n" not in str(caught.value)
        return str(caught.value)

    without = {key: tensor for key, tensor in sound.items() if key != name}
    ours = name if layout != "lpips" else "heads.4"
    naming = "in our naming; " if layout == "lpips" else ""
    assert refused(without) == f"group theirs lacks {ours} ({naming}1 such)"
    assert refused({**sound, "more.weight": torch.zeros(2)}) == "group theirs has an unknown more.weight (1 such)"
    shape = tuple(sound[name].shape)
    assert refused({**sound, name: torch.zeros(2, 5)}) == f"group theirs: {name} is (2, 5), expected {shape}"
    whole = torch.zeros((), dtype=torch.int64).expand(shape)
    assert refused({**sound, name: whole}) == f"group theirs: {name} holds int64, expected floats"
    assert refused({}).startswith(("group theirs lacks ", "no trunk of LPIPS"))


def test_the_wrong_layout_and_the_wrong_number_of_groups_are_refused() -> None:
    with pytest.raises(PixgraftError, match=r"group x lacks blocks\.0\.conv\.0\.weight"):
        from_state_dicts("mobilefacenet", {"x": stand_ins("squeezenet")})
    several: tuple[dict[str, Tensors], ...] = ({}, {"a": {}, "b": {}})
    for groups in several:
        with pytest.raises(PixgraftError, match=f"{len(groups)} groups of tensors, expected one"):
            from_state_dicts("vgg16", groups)
    with pytest.raises(PixgraftError, match="choose one of i2ilr, starganv2"):
        from_state_dicts("vgg19", {})


def test_what_measuring_does_not_need_is_passed_over() -> None:
    torch.manual_seed(0)
    tensors = MobileFaceNet().state_dict()
    network = from_state_dicts("mobilefacenet", {"x": tensors})["x"]
    old = {name: tensor.half() for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(tensors)
    same = from_state_dicts("mobilefacenet", {"x": old})["x"]
    assert network.state_dict().keys() == same.state_dict().keys()
    assert 0 < distance(same(made(1)), network(made(1)).detach().numpy()) < 1e-2
    # The class layers of the published files.
    for layout, name in (("inception-fid", "fc"), ("inception-torchvision", "fc"), ("vgg16", "classifier.6")):
        whole = {**stand_ins(layout), f"{name}.weight": torch.zeros(8, 2), f"{name}.bias": torch.zeros(8)}
        whole[EXAMPLES[layout]] = torch.zeros(2, 5)  # refused after unknown names are, so that nothing large is filled
        with pytest.raises(PixgraftError, match=rf"{EXAMPLES[layout]} is \(2, 5\), expected"):
            from_state_dicts(layout, {"x": whole})


def test_published_names_and_shapes() -> None:
    """Written down from the layouts' own code, for those that no reference file covers."""
    body = [(64, 64)] * 3 + [(64, 128)] + [(128, 128)] * 3 + [(128, 256)] + [(256, 256)] * 13
    body += [(256, 512)] + [(512, 512)] * 2
    expected: dict[str, tuple[int, ...]] = {"input_layer.0.weight": (64, 3, 3, 3), "input_layer.2.weight": (64,)}
    norms = {"input_layer.1": 64, "output_layer.0": 512, "output_layer.4": 512}
    for i, (c_in, c_out) in enumerate(body):
        layers = f"body.{i}.res_layer"
        expected |= {f"{layers}.1.weight": (c_out, c_in, 3, 3), f"{layers}.2.weight": (c_out,)}
        expected |= {f"{layers}.3.weight": (c_out, c_out, 3, 3)}
        expected |= {f"{layers}.5.fc1.weight": (c_out // 16, c_out, 1, 1)}
        expected |= {f"{layers}.5.fc2.weight": (c_out, c_out // 16, 1, 1)}
        norms |= {f"{layers}.0": c_in, f"{layers}.4": c_out}
        if c_in != c_out:
            expected[f"body.{i}.shortcut_layer.0.weight"] = (c_out, c_in, 1, 1)
            norms[f"body.{i}.shortcut_layer.1"] = c_out
    expected |= {"output_layer.3.weight": (512, 25088), "output_layer.3.bias": (512,)}
    for norm, width in norms.items():
        expected |= {f"{norm}.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")}
        expected[f"{norm}.num_batches_tracked"] = ()
    assert {name: tuple(shape) for name, shape in shapes("irse50").items()} == expected

    vgg = {name: tuple(shape) for name, shape in shapes("vgg16").items() if name.endswith("weight")}
    widths = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
    widths |= {17: (512, 256)} | dict.fromkeys((19, 21, 24, 26, 28), (512, 512))
    assert vgg == {
        **{f"features.{index}.weight": (*pair, 3, 3) for index, pair in widths.items()},
        "classifier.0.weight": (4096, 25088),
        "classifier.3.weight": (4096, 4096),
    }

    fires = {3: 16, 4: 16, 6: 32, 7: 32, 9: 48, 10: 48, 11: 64, 12: 64}
    squeeze = TRUNKS["squeeze"]().state_dict()
    assert {int(name.partition(".")[0]) for name in squeeze} == {0, *fires}
    for index, width in fires.items():
        assert squeeze[f"{index}.squeeze.weight"].shape[0] == width
        assert squeeze[f"{index}.expand3x3.weight"].shape == (4 * width, width, 3, 3)


def test_a_trunk_that_does_not_fit_is_refused() -> None:
    with pytest.raises(PixgraftError, match=r"trunk \(alex: 64, 192, 384, 256, 256 channels\) does not fit the heads"):
        lpips_from_trunk(random_trunk("alex"), heads("vgg"))
    with pytest.raises(PixgraftError, match=r"does not fit the heads \(no channels"):
        lpips_from_trunk(random_trunk("vgg"), {})
    other = {f"features.{name}": tensor for name, tensor in squeezenet1_0().state_dict().items()}
    with pytest.raises(PixgraftError, match=r"lpips lacks trunk\.11\.expand1x1\.bias"):  # SqueezeNet 1.0 for 1.1
        lpips_from_trunk(other, heads("squeeze"))
    deeper = {**random_trunk("vgg"), "features.30.weight": torch.zeros(512, 512, 3, 3)}  # VGG19 has more
    with pytest.raises(PixgraftError, match=r"has an unknown features\.30\.weight"):
        lpips_from_trunk(deeper, heads("vgg"))
    with pytest.raises(PixgraftError, match=r"no trunk of LPIPS: .* alex, vgg, squeeze"):
        lpips_from_trunk({"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}, heads("alex"))
    cut = {**random_trunk("alex"), "features.6.weight": torch.zeros(384, 192)}
    with pytest.raises(PixgraftError, match=r"features\.6\.weight is \(384, 192\), expected \(384, 192, 3, 3\)"):
        lpips_from_trunk(cut, heads("alex"))


SLICES = {"alex": (2, 5, 8, 10, 12), "vgg": (4, 9, 16, 23, 30), "squeeze": (2, 5, 8, 10, 11, 12, 13)}
"""Where each of the published slices of a trunk ends, the number of the next one's first layer."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_trunk_and_heads_make_the_published_whole(kind: Trunk) -> None:
    whole = {}
    for name in TRUNKS[kind]().state_dict():
        place = sum(int(name.partition(".")[0]) >= end for end in SLICES[kind]) + 1
        whole[f"net.slice{place}.{name}"] = random_trunk(kind)[f"features.{name}"]
    # Each slice gives the map at its end.
    assert TAPS[kind] == tuple(end - 1 for end in SLICES[kind])
    # the layout repeats its heads
    whole |= heads(kind) | {name.replace("lin", "lins.", 1): tensor for name, tensor in heads(kind).items()}
    whole |= {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "scaling_layer.scale": torch.ones(1, 3, 1, 1)}
    network = from_state_dicts("lpips", {"lpips": whole})["lpips"]
    x, y = made(2, 48), made(2, 48, seed=1)
    assert torch.equal(network(x, y), lpips(kind)(x, y))


@pytest.mark.slow
def test_vgg16_gives_the_second_fully_connected_layer_after_its_relu() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator) * (2 / (shape[1:].numel() or 1)) ** 0.5
        for name, shape in shapes("vgg16").items()
    }
    tensors |= {"classifier.6.weight": torch.zeros(1000, 4096), "classifier.6.bias": torch.zeros(1000)}
    network = from_state_dicts("vgg16", {"vgg16": tensors})["vgg16"]
    images = made(1, 224)
    x = (images + 1) / 2 - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
    x = x / torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    for stage in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        for index in stage:
            name = f"features.{index}"
            x = F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1).relu()
        x = F.max_pool2d(x, 2)
    x = x.flatten(1)
    for index in (0, 3):
        x = F.linear(x, tensors[f"classifier.{index}.weight"], tensors[f"classifier.{index}.bias"]).relu()
    assert x.shape == (1, 4096)
    assert distance(network(images), x.numpy()) < 1e-4
    assert network(made(1, 32)).shape == (1, 4096)
