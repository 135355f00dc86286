"""Losses that hear only what is known, cross supervision's three terms, schedules, precision, going on."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pwsseg.networks import losses, precision
from pwsseg.networks.losses import (
    LossName,
    activation_of,
    channels_of,
    cross_entropy_dice,
    dice,
    dice_focal,
    hard_labels,
    loss_named,
    marginal_cross_entropy_dice,
    scores_of,
)
from pwsseg.networks.plain_conv_unet import Convolution, PlainConvUNet, PlainConvUNetShape
from pwsseg.networks.schedules import learning_rate
from pwsseg.networks.supervision import (
    Batch,
    Twins,
    build_network,
    cross_supervised_terms,
    ramp_up,
    sum_of,
    supervised_terms,
)
from pwsseg.networks.transfer import carry_over

CLASSES = (1, 3, 14)
LOSSES = get_args(LossName)
IGNORING = ("dice+focal", "cross-entropy+dice")
"""The losses that leave an unknown class out where 0 is labelled; the marginal one merges it."""
SHAPE = (2, 3, 4)
every_loss = pytest.mark.parametrize("name", LOSSES)


pytestmark = pytest.mark.usefixtures("one_thread")


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def channels(name: LossName) -> tuple[int, ...]:
    return channels_of(activation_of(name), CLASSES)


def some_logits(name: LossName, batch: int = 2, seed: int = 0) -> torch.Tensor:
    logits = torch.randn(batch, len(channels(name)), *SHAPE, generator=random(seed))
    return logits.requires_grad_()


def some_labels(batch: int = 2, seed: int = 1) -> torch.Tensor:
    ids = torch.tensor([0, *CLASSES], dtype=torch.uint8)
    return ids[torch.randint(len(ids), (batch, *SHAPE), generator=random(seed))]


def all_known(batch: int = 2) -> torch.Tensor:
    return torch.ones(batch, len(CLASSES), dtype=torch.bool)


def sure_logits(name: LossName, labels: torch.Tensor) -> torch.Tensor:
    """Logits of a network that is right and sure."""
    return torch.stack([torch.where(labels == k, 60.0, -60.0) for k in channels(name)], dim=1)


@every_loss
def test_perfect_prediction_costs_nothing(name: LossName) -> None:
    labels = some_labels()
    loss = loss_named(name, CLASSES)(sure_logits(name, labels), labels, all_known())
    assert loss.item() == pytest.approx(0, abs=1e-6)


@every_loss
def test_sure_background_without_any_organ_costs_nothing(name: LossName) -> None:
    labels = torch.zeros(2, *SHAPE, dtype=torch.uint8)
    loss = loss_named(name, CLASSES)(sure_logits(name, labels), labels, all_known())
    assert loss.item() == pytest.approx(0, abs=1e-6)


@every_loss
def test_sure_and_wrong_costs_more_than_unsure(name: LossName) -> None:
    labels = some_labels()
    loss = loss_named(name, CLASSES)
    unsure = loss(torch.zeros_like(some_logits(name)), labels, all_known())
    wrong = loss(-sure_logits(name, labels), labels, all_known())
    assert 0 < unsure < wrong
    assert torch.isfinite(wrong)


@every_loss
def test_unknown_voxels_have_no_gradient_and_no_say(name: LossName) -> None:
    labels, logits = some_labels(), some_logits(name)
    unknown = torch.rand(labels.shape, generator=random(2)) < 0.4
    labels[unknown] = 255
    loss = loss_named(name, CLASSES)
    value = loss(logits, labels, all_known())
    torch.autograd.backward(value)
    assert logits.grad is not None
    everywhere = unknown[:, None].expand_as(logits)
    assert (logits.grad[everywhere] == 0).all()
    assert (logits.grad[~everywhere] != 0).all()
    other = torch.where(everywhere, 7.0, logits.detach())
    assert loss(other, labels, all_known()).item() == pytest.approx(value.item(), rel=1e-6)


@pytest.mark.parametrize("name", IGNORING)
def test_unknown_class_has_no_gradient_and_no_say_where_labelled_background(name: LossName) -> None:
    labels, logits = some_labels(), some_logits(name)
    labels[labels == CLASSES[1]] = 0
    known = all_known()
    known[0, 1] = False
    loss = loss_named(name, CLASSES)
    value = loss(logits, labels, known)
    torch.autograd.backward(value)
    channel = channels(name).index(CLASSES[1])
    background = labels[0] == 0
    assert logits.grad is not None
    assert (logits.grad[0, channel][background] == 0).all()
    assert (logits.grad[1, channel] != 0).all()
    other = logits.detach().clone()
    other[0, channel][background] = 9
    assert loss(other, labels, known).item() == pytest.approx(value.item(), rel=1e-6)


@every_loss
def test_nothing_known_costs_nothing_and_teaches_nothing(name: LossName) -> None:
    logits = some_logits(name)
    labels = torch.full((2, *SHAPE), 255, dtype=torch.uint8)
    value = loss_named(name, CLASSES)(logits, labels, ~all_known())
    torch.autograd.backward(value)
    assert logits.grad is not None
    assert (logits.grad == 0).all()
    assert torch.isfinite(value)


def test_sigmoid_of_an_unknown_class_is_told_that_it_is_absent_where_another_is_labelled() -> None:
    logits = some_logits("dice+focal", batch=1)
    labels = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    labels[0, 0, 0, 0] = CLASSES[0]
    known = torch.tensor([[True, False, True]])
    torch.autograd.backward(dice_focal(logits, labels, known, classes=CLASSES))
    assert logits.grad is not None
    told = logits.grad[0, 1] != 0
    assert told.sum() == 1
    assert told[0, 0, 0]


@every_loss
def test_gradient_is_that_of_finite_differences(name: LossName) -> None:
    labels = some_labels()
    labels[0, 0, 0, :2] = 255
    known = all_known()
    known[1, 2] = False
    function = {
        "dice+focal": dice_focal,
        "cross-entropy+dice": cross_entropy_dice,
        "marginal-cross-entropy+dice": marginal_cross_entropy_dice,
    }[name]
    logits = some_logits(name).detach().double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: function(x, labels, known, classes=CLASSES), (logits,), fast_mode=True
    )


def one_voxel(*probabilities: float) -> torch.Tensor:
    """Logits (1, channel, 1, 1, 1) whose sigmoids are these."""
    p = torch.tensor(probabilities)
    return (p / (1 - p)).log().reshape(1, -1, 1, 1, 1)


def test_dice_is_worked_by_hand() -> None:
    # p = 0.5, 1.0 and g = 1, 1 of the first class; p = 0, 0 and g = 0, 1 of the second
    overlap, predicted, true = torch.tensor([[1.5, 0.0], [1.25, 0.0], [2.0, 1.0]])
    both = torch.tensor([True, True])
    first = 2 * 1.5 / (1.25 + 2)
    assert dice(overlap, predicted, true, heard=both).item() == pytest.approx(1 - (first + 0) / 2)
    nothing = torch.zeros(2)
    assert dice(nothing, nothing, nothing, heard=both).item() == pytest.approx(0)


def test_dice_leaves_classes_that_nobody_speaks_about_out_of_the_mean() -> None:
    overlap, predicted, true = torch.tensor([[0.5, 0.9], [0.25, 0.81], [1.0, 1.0]])
    heard = torch.tensor([True, False])
    assert dice(overlap, predicted, true, heard=heard).item() == pytest.approx(1 - 2 * 0.5 / 1.25)


def test_dice_focal_is_worked_by_hand() -> None:
    labels = torch.tensor([[[[1]]]], dtype=torch.uint8)
    known = torch.ones(1, 2, dtype=torch.bool)
    loss = dice_focal(one_voxel(0.8, 0.4), labels, known, classes=(1, 2), alpha=0.25)
    overlaps = 2 * 0.8 / (0.64 + 1), 0.0
    focal = 0.25 * 0.2**2 * -math.log(0.8) + 0.75 * 0.4**2 * -math.log(0.6)
    assert loss.item() == pytest.approx(1 - sum(overlaps) / 2 + focal / 2, rel=1e-5)


def test_cross_entropy_dice_is_worked_by_hand() -> None:
    labels = torch.tensor([[[[2]]]], dtype=torch.uint8)
    logits = torch.tensor([0.5, 0.2, 0.3]).log().reshape(1, 3, 1, 1, 1)
    known = torch.ones(1, 2, dtype=torch.bool)
    loss = cross_entropy_dice(logits, labels, known, classes=(1, 2))
    overlaps = 0.0, 2 * 0.3 / (0.09 + 1)
    assert loss.item() == pytest.approx(1 - sum(overlaps) / 2 - math.log(0.3), rel=1e-5)


def test_softmax_runs_over_the_known_channels() -> None:
    labels = torch.tensor([[[[2]]]], dtype=torch.uint8)
    logits = torch.tensor([0.5, 0.2, 0.3]).log().reshape(1, 3, 1, 1, 1)
    loss = cross_entropy_dice(logits, labels, torch.tensor([[False, True]]), classes=(1, 2))
    p = 0.3 / 0.8
    assert loss.item() == pytest.approx(1 - 2 * p / (p * p + 1) - math.log(p), rel=1e-5)


MARGINAL: LossName = "marginal-cross-entropy+dice"


def test_marginal_loss_is_worked_by_hand() -> None:
    labels = torch.tensor([0, 2], dtype=torch.uint8).reshape(1, 1, 1, 2)
    known = torch.tensor([[False, True]])
    first, second = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]]).log()
    logits = torch.stack([first, second], dim=1).reshape(1, 3, 1, 1, 2)
    loss = marginal_cross_entropy_dice(logits, labels, known, classes=(1, 2))
    entropy = -(math.log(0.5 + 0.2) + math.log(0.3)) / 2
    overlap = 2 * 0.3 / (0.3**2 + 0.3**2 + 1)
    assert loss.item() == pytest.approx(1 - overlap + entropy, rel=1e-5)


def test_marginal_loss_is_plain_where_everything_is_known() -> None:
    logits, labels = some_logits(MARGINAL), some_labels()
    plain = cross_entropy_dice(logits, labels, all_known(), classes=CLASSES)
    marginal = marginal_cross_entropy_dice(logits, labels, all_known(), classes=CLASSES)
    assert marginal.item() == pytest.approx(plain.item(), rel=1e-6)


def test_marginal_loss_does_not_hear_how_background_and_unknown_classes_share() -> None:
    labels = some_labels()
    labels[labels == CLASSES[1]] = 0
    known = all_known()
    known[:, 1] = False
    probabilities = some_logits(MARGINAL).detach().softmax(1)
    shared = probabilities.clone()
    both = probabilities[:, 0] + probabilities[:, 2]
    shared[:, 0], shared[:, 2] = 0.9 * both, 0.1 * both
    loss = loss_named(MARGINAL, CLASSES)
    assert loss(shared.log(), labels, known).item() == pytest.approx(
        loss(probabilities.log(), labels, known).item(), rel=1e-5
    )
    torch.testing.assert_close(shared.sum(1), torch.ones_like(both))


def test_marginal_loss_rewards_an_unknown_class_where_0_is_labelled_and_penalises_it_elsewhere() -> None:
    labels = torch.tensor([0, CLASSES[0]], dtype=torch.uint8).reshape(1, 1, 1, 2)
    logits = torch.zeros(1, 4, 1, 1, 2, requires_grad=True)
    known = torch.tensor([[True, False, True]])
    torch.autograd.backward(loss_named(MARGINAL, CLASSES)(logits, labels, known))
    assert logits.grad is not None
    unknown = logits.grad[0, 2, 0, 0]
    assert unknown[0] < 0 < unknown[1]


@every_loss
def test_half_precision_logits_are_summed_in_float32(name: LossName) -> None:
    logits = some_logits(name).detach().bfloat16()
    loss = loss_named(name, CLASSES)(logits, some_labels(), all_known())
    assert loss.dtype == torch.float32


def test_sigmoid_labels_are_the_highest_above_one_half() -> None:
    logits = torch.cat([one_voxel(0.49, 0.1), one_voxel(0.6, 0.7), one_voxel(0.51, 0.2)])
    assert hard_labels("sigmoid", logits, (3, 14)).flatten().tolist() == [0, 14, 3]


def test_softmax_labels_are_the_highest_channel() -> None:
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 2], [0, 2, 1]]).reshape(3, 3, 1, 1, 1)
    assert hard_labels("softmax", logits, (3, 14)).flatten().tolist() == [0, 14, 3]


@every_loss
def test_scores_have_a_background_channel_first(name: LossName) -> None:
    scores = scores_of(activation_of(name), some_logits(name))
    assert scores.shape == (2, 1 + len(CLASSES), *SHAPE)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_label_that_the_network_is_less_sure_of_is_unknown() -> None:
    """Sigmoids of 0.9, 0.6 and, for the absence of both classes, 0.7 and 0.95."""
    highest = torch.logit(torch.tensor([0.9, 0.6, 0.3, 0.05]))
    logits = torch.stack([highest, highest - 1]).view(1, 2, 4, 1, 1)
    assert hard_labels("sigmoid", logits, (3, 14)).flatten().tolist() == [3, 3, 0, 0]
    assert hard_labels("sigmoid", logits, (3, 14), confidence=0.8).flatten().tolist() == [3, 255, 255, 0]
    shares = torch.tensor([[0.1, 0.3, 0.85], [0.85, 0.35, 0.1], [0.05, 0.35, 0.05]])
    logits = shares.log().view(1, 3, 3, 1, 1)
    assert hard_labels("softmax", logits, (3, 14), confidence=0.8).flatten().tolist() == [3, 255, 0]


def test_hard_labels_carry_no_gradient() -> None:
    labels = hard_labels("sigmoid", some_logits("dice+focal"), CLASSES)
    assert labels.dtype == torch.uint8
    assert not labels.requires_grad


class Scaled(nn.Module):
    """Logits that are a learnt multiple of the image, so that gradients can be worked by hand."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.factor * images


def twins() -> Twins:
    made = iter((Scaled(1.0), Scaled(-0.5)))
    return Twins(lambda: next(made))


def batch_of(labelled: int, unlabelled: int) -> Batch:
    images = torch.randn(labelled + unlabelled, len(CLASSES), *SHAPE, generator=random(5))
    return Batch(images, some_labels(labelled), all_known(labelled))


LOSS = loss_named("dice+focal", CLASSES)


def harden(logits: torch.Tensor) -> torch.Tensor:
    return hard_labels("sigmoid", logits, CLASSES)


def test_three_terms_are_eq_3_worked_by_hand() -> None:
    network, batch = twins(), batch_of(2, 1)
    terms = cross_supervised_terms(network, batch, LOSS, harden=harden)
    p1, p2 = batch.images, -0.5 * batch.images
    y1, y2 = harden(p1), harden(p2)
    one, two = all_known(1), all_known(2)
    expected = {
        "supervised": LOSS(p1[:2], batch.labels, two) + LOSS(p2[:2], batch.labels, two),
        "cross_labelled": LOSS(p1[:2], y2[:2], two) + LOSS(p2[:2], y1[:2], two),
        "cross_unlabelled": LOSS(p1[2:], y2[2:], one) + LOSS(p2[2:], y1[2:], one),
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-6), name
    assert sum_of(terms.values()).item() == pytest.approx(sum(v.item() for v in expected.values()), rel=1e-6)


def test_no_gradient_passes_through_hard_labels() -> None:
    network, batch = twins(), batch_of(1, 1)
    terms = cross_supervised_terms(network, batch, LOSS, harden=harden)
    torch.autograd.backward(terms["cross_labelled"] + terms["cross_unlabelled"])
    for own, other, factor in ((network.f1, -0.5, 1.0), (network.f2, 1.0, -0.5)):
        alone = torch.tensor(factor, requires_grad=True)
        parts = (batch.images[:1], batch.images[1:])
        torch.autograd.backward(sum_of(LOSS(alone * x, harden(other * x), all_known(1)) for x in parts))
        assert own.factor.grad is not None
        torch.testing.assert_close(own.factor.grad, alone.grad)


def test_unlabelled_term_is_there_only_with_unlabelled_patches() -> None:
    terms = cross_supervised_terms(twins(), batch_of(2, 0), LOSS, harden=harden)
    assert set(terms) == {"supervised", "cross_labelled"}


def test_ramp_weighs_both_cross_terms_and_not_the_supervised_one() -> None:
    batch = batch_of(1, 1)
    full = cross_supervised_terms(twins(), batch, LOSS, harden=harden)
    half = cross_supervised_terms(twins(), batch, LOSS, harden=harden, weight=0.5)
    for name, factor in (("supervised", 1), ("cross_labelled", 0.5), ("cross_unlabelled", 0.5)):
        assert half[name].item() == pytest.approx(factor * full[name].item())


def test_unknown_voxels_of_the_annotation_are_still_heard_by_the_cross_term() -> None:
    batch = batch_of(1, 0)
    silent = batch._replace(labels=torch.full_like(batch.labels, 255))
    terms = cross_supervised_terms(twins(), silent, LOSS, harden=harden)
    heard = cross_supervised_terms(twins(), batch, LOSS, harden=harden)
    assert terms["cross_labelled"].item() == heard["cross_labelled"].item() > 0


def test_plain_supervision_is_the_loss_itself() -> None:
    batch = batch_of(2, 0)
    terms = supervised_terms(Scaled(1.0), batch, LOSS)
    assert set(terms) == {"supervised"}
    assert terms["supervised"].item() == LOSS(batch.images, batch.labels, batch.known).item()


def test_ramp_rises_from_e_to_the_minus_5_to_1() -> None:
    assert ramp_up(0) == pytest.approx(math.exp(-5))
    assert ramp_up(0.5) == pytest.approx(math.exp(-1.25))
    assert ramp_up(1) == ramp_up(2) == 1


SMALL = PlainConvUNetShape(
    kind="plain-conv-unet", widths=(4, 6), strides=((1, 2, 2),), stem=(1, 1, 1), convolutions=2, prior=0.02
)


def test_twins_differ_at_initialisation() -> None:
    torch.manual_seed(0)
    network = build_network(SMALL, 3, "cross")
    assert isinstance(network, Twins)
    images = torch.randn(1, 1, 4, 8, 8)
    first, second = network(images)
    assert first.shape == second.shape == (1, 3, 4, 8, 8)
    assert (first - second).abs().max() > 1e-3


def test_plain_supervision_has_one_network() -> None:
    assert isinstance(build_network(SMALL, 3, "plain"), PlainConvUNet)


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
def test_convolution_padded_beforehand_is_the_padded_convolution(stride: tuple[int, int, int]) -> None:
    image = torch.randn(2, 3, 4, 6, 8, generator=random(0)).requires_grad_()
    convolution = Convolution(3, 5, stride)
    expected = F.conv3d(image, convolution.weight, None, stride, padding=1)
    assert torch.allclose(convolution(image), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("progress", "factor"), [(0, 1), (0.6599, 1), (0.66, 0.1), (0.8599, 0.1), (0.86, 0.05), (0.999, 0.05)]
)
def test_steps_fall_at_66_and_86_percent(progress: float, factor: float) -> None:
    assert learning_rate("steps", progress) == factor


def test_poly_is_one_minus_t_to_the_0_9() -> None:
    assert learning_rate("poly", 0) == 1
    assert learning_rate("poly", 0.5) == pytest.approx(0.5**0.9)
    assert learning_rate("poly", 0.999) < 0.01


@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize("avx", [True, False])
def test_cpu_autocasts_only_with_bf16_in_hardware(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    with precision.autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if amx or avx else torch.float32)


def test_cpu_without_either_check_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not precision.has_bf16(torch.device("cpu"))


@pytest.mark.parametrize("native", [True, False])
def test_gpu_that_emulates_bf16_computes_in_float32(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    def supported(*, including_emulation: bool) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert precision.has_bf16(torch.device("cuda")) is native


def go_on(parent: nn.Module, child: nn.Module) -> dict[str, torch.Tensor]:
    """The child's tensors after it took over the parent's, both with the same classes."""
    carry_over(child, parent.state_dict(), stored_channels=(1, 2, 3), channels=(1, 2, 3))
    return child.state_dict()


def same(child: dict[str, torch.Tensor], parent: nn.Module, prefix: str = "") -> bool:
    return all(torch.equal(child[prefix + n], t) for n, t in parent.state_dict().items())


def test_twins_go_on_from_twins() -> None:
    parent = build_network(SMALL, 3, "cross")
    assert same(go_on(parent, build_network(SMALL, 3, "cross")), parent)


def test_single_network_goes_on_from_f1() -> None:
    parent = Twins(lambda: PlainConvUNet(SMALL, 3))
    assert same(go_on(parent, build_network(SMALL, 3, "plain")), parent.f1)


def test_only_f1_goes_on_from_a_single_network() -> None:
    parent, child = PlainConvUNet(SMALL, 3), Twins(lambda: PlainConvUNet(SMALL, 3))
    fresh = {n: t.clone() for n, t in child.f2.state_dict().items()}
    tensors = go_on(parent, child)
    assert same(tensors, parent, "f1.")
    assert all(torch.equal(tensors[f"f2.{n}"], t) for n, t in fresh.items())


@pytest.mark.parametrize("stem", [(1, 1, 1), (2, 2, 2)])
def test_network_of_organs_and_tumor_begins_with_the_organs_labels(stem: tuple[int, int, int]) -> None:
    organs, all_classes = (1, 2, 3), (1, 2, 3, 14)
    parent = PlainConvUNet(SMALL.model_copy(update={"stem": stem, "prior": 0.4}), 3)
    child = PlainConvUNet(SMALL.model_copy(update={"stem": stem}), 5)
    carry_over(child, parent.state_dict(), stored_channels=organs, channels=(0, *all_classes))
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        before = losses.hard_labels("sigmoid", parent(image), organs)
        after = losses.hard_labels("softmax", child(image), all_classes)
    assert before.any()
    # the tumor's constant can only win where every organ is nearly as unlikely as it
    assert torch.equal(before, after)


@every_loss
def test_a_few_steps_learn_a_bright_cube(name: LossName) -> None:
    torch.manual_seed(0)
    size = 8
    labels = torch.zeros(1, size, size, size, dtype=torch.uint8)
    labels[:, 2:6, 2:6, 2:6] = 1
    images = F.pad(torch.ones(1, 1, 4, 4, 4), [2] * 6) + 0.1 * torch.randn(1, 1, size, size, size)
    count = len(channels_of(activation_of(name), (1,)))
    network = PlainConvUNet(SMALL, count)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    loss = loss_named(name, (1,))
    for _ in range(80):
        optimiser.zero_grad()
        torch.autograd.backward(loss(network(images), labels, torch.ones(1, 1, dtype=torch.bool)))
        optimiser.step()
    predicted = hard_labels(activation_of(name), network(images), (1,))
    assert (predicted == labels).float().mean() > 0.95
    assert predicted.sum() > 0
