"""The three networks: the numbers of parameters that METHOD.md states, and any size of input."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import nn

from pwsseg.networks.coarse_unet import CoarseUNetShape
from pwsseg.networks.efficient_seg_net import EfficientSegNetShape, averaged
from pwsseg.networks.kinds import NetworkShape, build
from pwsseg.networks.plain_conv_unet import PlainConvUNet, PlainConvUNetShape
from pwsseg.networks.residual import DROPOUT
from pwsseg.rounds import load_round

JOBS = Path(__file__).resolve().parents[1] / "jobs"
COARSE = CoarseUNetShape(kind="coarse-unet", widths=(8, 16, 32, 64, 128))
FINE = EfficientSegNetShape(kind="efficient-seg-net", widths=(16, 32, 64, 128, 256))
PLAIN = PlainConvUNetShape(
    kind="plain-conv-unet", widths=(4, 6), strides=((1, 2, 2),), stem=(1, 1, 1), convolutions=2, prior=0.02
)
NARROW: list[CoarseUNetShape | EfficientSegNetShape] = [
    COARSE.model_copy(update={"widths": (2, 3, 4, 5, 6)}),
    FINE.model_copy(update={"widths": (4, 4, 4, 4, 8)}),
]
organ_networks = pytest.mark.parametrize("shape", NARROW, ids=lambda s: s.kind)


pytestmark = pytest.mark.usefixtures("one_thread")


def parameters(shape: NetworkShape, channels: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(shape, channels).parameters())


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        (COARSE, 4, 2_676_480),
        (COARSE, 13, 2_676_552),
        (FINE, 4, 9_366_016),
        (FINE, 13, 9_366_160),
        (FINE, 14, 9_366_176),
    ],
)
def test_organ_networks_have_the_public_codes_number_of_parameters(
    shape: NetworkShape, channels: int, expected: int
) -> None:
    assert parameters(shape, channels) == expected


@pytest.mark.parametrize(("scale", "expected"), [("flare23", 48_239_855), ("flare23-larger", 84_951_983)])
def test_organ_and_tumor_networks_have_their_number_of_parameters(scale: str, expected: int) -> None:
    settings = load_round("ots2", scale, folder=JOBS)
    assert parameters(settings.network, len(settings.channels)) == expected


def test_larger_network_has_a_larger_patch_and_three_convolutions_a_stage() -> None:
    stage = load_round("ots2", "flare23-larger", folder=JOBS).stage
    assert stage.patch == (48, 224, 224)
    assert isinstance(stage.network, PlainConvUNetShape)
    assert stage.network.convolutions == 3
    assert (stage.network.widths[0], max(stage.network.widths)) == (32, 512)


@organ_networks
@pytest.mark.parametrize("size", [(32, 32, 48), (33, 40, 17)])
def test_organ_networks_take_any_size(shape: NetworkShape, size: tuple[int, int, int]) -> None:
    assert build(shape, 3)(torch.randn(1, 1, *size)).shape == (1, 3, *size)


@organ_networks
def test_every_weight_of_an_organ_network_learns(shape: NetworkShape) -> None:
    torch.manual_seed(0)
    network = build(shape, 2)
    for module in network.modules():
        if isinstance(module, nn.Dropout3d):
            module.p = 0.0  # a narrow network may drop all channels of a path at once
    torch.autograd.backward(network(torch.randn(1, 1, 32, 32, 32)).square().sum())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@organ_networks
def test_organ_networks_have_neither_biases_nor_norm_parameters(shape: NetworkShape) -> None:
    names = [name for name, tensor in build(shape, 2).state_dict().items()]
    assert all(name.endswith(".weight") for name in names)
    assert all(tensor.dim() == 5 for tensor in build(shape, 2).state_dict().values())


@organ_networks
def test_channels_are_dropped_in_training_only(shape: NetworkShape) -> None:
    network, image = build(shape, 2), torch.randn(1, 1, 32, 32, 32)
    drops = [m.p for m in network.modules() if isinstance(m, nn.Dropout3d)]
    assert set(drops) == {DROPOUT} == {0.2}
    with torch.no_grad():
        assert not torch.equal(network(image), network(image))
        network.eval()
        assert torch.equal(network(image), network(image))


def test_fine_network_hears_the_whole_box() -> None:
    """A voxel of one corner changes the logits of the opposite one, far beyond any kernel's reach."""
    torch.manual_seed(0)
    network = build(NARROW[1], 1).eval()
    image = torch.randn(1, 1, 64, 32, 32)
    changed = image.clone()
    changed[..., :8, :8, :8] += 3
    with torch.no_grad():
        difference = (network(image) - network(changed)).abs()
    assert difference[..., -8:, -8:, -8:].max() > 1e-6


def test_pyramid_averages_blocks_at_the_papers_size_and_leaves_two_voxels_below_it() -> None:
    features = torch.randn(1, 2, 12, 12, 12)
    for factor in (1, 2, 4):
        torch.testing.assert_close(averaged(features, factor), F.avg_pool3d(features, factor))
    assert averaged(features[:, :, :4, :2], 4).shape == (1, 2, 2, 2, 3)


@pytest.mark.parametrize(
    ("stem", "strides"),
    [
        ((1, 1, 1), ()),
        ((1, 1, 1), ((2, 2, 2), (1, 2, 2))),
        ((1, 2, 2), ((2, 2, 2),)),
        ((2, 2, 2), ((1, 2, 2), (2, 2, 2))),
        ((4, 1, 2), ((1, 1, 1), (1, 3, 1))),
    ],
)
def test_logits_have_the_shape_of_the_image(
    stem: tuple[int, int, int], strides: tuple[tuple[int, int, int], ...]
) -> None:
    widths = (4, 5, 6)[: len(strides) + 1]
    shape = PLAIN.model_copy(update={"widths": widths, "strides": strides, "stem": stem})
    # twice the divisor, since instance norm has nothing to compare on a single voxel
    size = tuple(2 * d for d in shape.divisor)
    assert build(shape, 2)(torch.randn(2, 1, *size)).shape == (2, 2, *size)


def test_divisor_is_the_product_of_stem_and_strides() -> None:
    shape = PLAIN.model_copy(update={"stem": (1, 2, 2), "strides": ((2, 2, 2), (1, 2, 1))})
    assert shape.divisor == (2, 8, 4)
    assert NARROW[0].divisor == NARROW[1].divisor == (16, 16, 16)


@pytest.mark.parametrize("convolutions", [1, 3])
def test_stages_have_as_many_convolutions_as_asked(convolutions: int) -> None:
    network = build(PLAIN.model_copy(update={"convolutions": convolutions}), 2)
    kernels = [m for m in network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size == (3, 3, 3)]
    assert len(kernels) == 3 * convolutions


@pytest.mark.parametrize("stem", [(1, 1, 1), (2, 2, 2)])
def test_every_channel_starts_at_its_prior(stem: tuple[int, int, int]) -> None:
    head = PlainConvUNet(PLAIN.model_copy(update={"stem": stem}), 3).head
    assert head.bias is not None
    assert torch.allclose(head.bias.sigmoid(), torch.tensor(0.02))


@pytest.mark.parametrize("shape", [PLAIN, *NARROW], ids=lambda s: s.kind)
def test_shape_is_read_back_as_the_kind_that_it_is(shape: NetworkShape) -> None:
    again: NetworkShape = TypeAdapter(NetworkShape).validate_python(shape.model_dump(mode="json"))
    assert again == shape
    assert type(again) is type(shape)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"kind": "dense-net", "widths": [4]}, "dense-net"),
        ({"widths": [4]}, "kind"),
        ({"kind": "coarse-unet", "widths": []}, "widths"),
        ({"kind": "coarse-unet", "widths": [4], "stem": [1, 1, 1]}, "stem"),
        (PLAIN.model_dump() | {"strides": []}, "2 widths need 1 strides"),
    ],
)
def test_shape_that_makes_no_network_is_refused(said: dict[str, object], found: str) -> None:
    with pytest.raises(ValidationError, match=found):
        TypeAdapter(NetworkShape).validate_python(said)
