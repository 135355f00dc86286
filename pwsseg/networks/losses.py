"""Losses that hear only what is known.

    logits (batch, channel, z, y, x), labels uint8 (batch, z, y, x), known bool (batch, class) -> scalar

A voxel labelled 255 gives neither reward nor penalty, nor does a class that nobody speaks about in a case
(`known` False): a voxel labelled 0 there is "background or that class", of which the marginal loss rewards
the sum. `classes` maps channels to labels. In a DDP training sums run over the batches of all workers
(workers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F

from pwsseg.networks.workers import over_workers
from pwsseg.values import UNKNOWN

LossName = Literal["dice+focal", "cross-entropy+dice", "marginal-cross-entropy+dice"]
Activation = Literal["sigmoid", "softmax"]
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

IGNORED = -100
"""The channel of an unknown voxel."""

EPSILON = 1e-8
"""Of the Dice quotient (METHOD.md, cross supervision)."""


SPACE = (0, 2, 3, 4)
"""The axes of (batch, channel, z, y, x) that a class is summed over."""


def dice(
    overlap: torch.Tensor, predicted: torch.Tensor, true: torch.Tensor, *, heard: torch.Tensor
) -> torch.Tensor:
    """1 - mean over the classes heard of (2 sum pg + e) / (sum p^2 + sum g^2 + e), e = 1e-8.

    `overlap` is sum pg of each class, `predicted` sum p^2, `true` sum g^2, over batch and space; `heard`
    says which classes anybody speaks about.
    """
    quotient = (2 * overlap + EPSILON) / (predicted + true + EPSILON)
    return 1 - (quotient * heard).sum() / heard.sum().clamp_min(1)


def dice_focal(
    logits: torch.Tensor,
    labels: torch.Tensor,
    known: torch.Tensor,
    *,
    classes: tuple[int, ...],
    alpha: float = 0.5,
    gamma: float = 2.0,
) -> torch.Tensor:
    """Dice + focal on one sigmoid channel a class (Table 2; Lin et al., ICCV 2017, elementwise).

    A voxel speaks about class k when it is labelled at all and either k is known in its case or the voxel
    is labelled as another class (then k is surely absent there).

    Both terms come from one volume, the error e = |p - g|: the sigmoid of the logit, its sign turned where
    g = 1. p differs from e on the voxels of the class alone, where it is 1 - e.
    """
    channels = _channels(labels, classes)
    is_true = channels[:, None] == torch.arange(len(classes), device=labels.device)[:, None, None, None]
    labelled = (labels != UNKNOWN)[:, None]
    stated = labelled & (known[:, :, None, None, None] | (labels != 0)[:, None])
    signed = torch.where(is_true, -logits, logits)
    error = signed.sigmoid() * stated.to(logits.dtype)
    squares = error.square()
    focal = F.softplus(signed) * (squares if gamma == 2 else error.pow(gamma))
    if alpha != 0.5:  # an even balance is one number, not a volume of them
        focal = focal * (2 * (1 - alpha) + (4 * alpha - 2) * is_true)
    true, missed, squared, heard, penalty, voxels = over_workers(
        _voxels(channels, logits),
        _sums_on_own_voxels(error, channels),
        squares.sum(SPACE),
        stated.flatten(2).any(2).any(0),
        focal.sum(),
        stated.sum(),
    )
    overlap = dice(true - missed, squared + true - 2 * missed, true, heard=heard > 0)
    return overlap + 0.5 * penalty / voxels.clamp_min(1)


def cross_entropy_dice(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor, *, classes: tuple[int, ...]
) -> torch.Tensor:
    """Cross-entropy + Dice on softmax with a background channel first (Table 3).

    The channels of classes that are unknown in a case are left out of its softmax.
    """
    channels = _channels(labels, (0, *classes))
    if not known.all():
        heard = F.pad(known, (1, 0), value=True)
        logits = logits.masked_fill(~heard[:, :, None, None, None], torch.finfo(logits.dtype).min)
        channels = _spoken(channels, heard)
    return _entropy_and_dice(logits.log_softmax(1), channels, labels != UNKNOWN, known)


def marginal_cross_entropy_dice(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor, *, classes: tuple[int, ...]
) -> torch.Tensor:
    """Cross-entropy + Dice on softmax, unknown classes merged into the background (Shi et al., MedIA 2021).

    The softmax runs over all channels. A voxel labelled 0 asks for the sum of the background's and the
    unknown classes' probabilities, however they share it; a voxel of a known class asks for none of it.
    """
    unknown = ~known[:, :, None, None, None]
    log_probabilities = logits.log_softmax(1)
    merged = log_probabilities[:, 1:].masked_fill(~unknown, -torch.inf)
    background = torch.cat([log_probabilities[:, :1], merged], dim=1).logsumexp(1, keepdim=True)
    organs = log_probabilities[:, 1:].masked_fill(unknown, -torch.inf)
    asked = torch.cat([background, organs], dim=1)
    channels = _spoken(_channels(labels, (0, *classes)), F.pad(known, (1, 0), value=True))
    return _entropy_and_dice(asked, channels, labels != UNKNOWN, known)


def _entropy_and_dice(
    log_probabilities: torch.Tensor,
    channels: torch.Tensor,
    labelled: torch.Tensor,
    known: torch.Tensor,
) -> torch.Tensor:
    """The mean cross-entropy over labelled voxels, and Dice over the classes that are known."""
    entropy = F.nll_loss(log_probabilities, channels, ignore_index=IGNORED, reduction="sum")
    probabilities = log_probabilities.exp() * labelled[:, None].to(log_probabilities.dtype)
    overlap, predicted, true, heard, penalty, voxels = over_workers(
        _sums_on_own_voxels(probabilities, channels)[1:],
        probabilities.square().sum(SPACE)[1:],
        _voxels(channels, probabilities)[1:],
        (known & labelled.flatten(1).any(1)[:, None]).any(0),
        entropy,
        labelled.sum(),
    )
    return dice(overlap, predicted, true, heard=heard > 0) + penalty / voxels.clamp_min(1)


def _channels(labels: torch.Tensor, classes: tuple[int, ...]) -> torch.Tensor:
    """Labels (batch, z, y, x) -> the channel of each voxel, IGNORED where it has none."""
    channel = torch.full((UNKNOWN + 1,), IGNORED, device=labels.device)
    channel[list(classes)] = torch.arange(len(classes), device=labels.device)
    return channel[labels.long()]


def _voxels(channels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """How many voxels each channel of `like` (batch, channel, ...) is true on."""
    found = torch.bincount(channels[channels >= 0], minlength=like.shape[1])
    return found.to(like.dtype)


def _sums_on_own_voxels(volume: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    """The sum of each channel of `volume` (batch, channel, z, y, x) over the voxels that it is true on."""
    own = volume.gather(1, channels.clamp_min(0)[:, None])[:, 0]
    beyond = volume.shape[1]  # what has no channel is summed there and dropped
    sums = own.new_zeros(beyond + 1).index_add(
        0, channels.masked_fill(channels < 0, beyond).flatten(), own.flatten()
    )
    return sums[:-1]


def _spoken(channels: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
    """The channels without those that a voxel's own case calls unknown."""
    spoken = heard.gather(1, channels.clamp_min(0).flatten(1)).view_as(channels)
    return channels.masked_fill(~spoken, IGNORED)


def loss_named(name: LossName, classes: tuple[int, ...]) -> Loss:
    """The loss of a round over the classes of its channels."""
    function = {
        "dice+focal": dice_focal,
        "cross-entropy+dice": cross_entropy_dice,
        "marginal-cross-entropy+dice": marginal_cross_entropy_dice,
    }[name]
    return lambda logits, labels, known: function(logits.float(), labels, known, classes=classes)


def activation_of(name: LossName) -> Activation:
    """What turns the logits of a network trained with this loss into probabilities."""
    return "sigmoid" if name == "dice+focal" else "softmax"


def channels_of(activation: Activation, classes: tuple[int, ...]) -> tuple[int, ...]:
    """The label of each output channel: softmax has a background channel first, sigmoids have none."""
    return (0, *classes) if activation == "softmax" else classes


def scores_of(activation: Activation, logits: torch.Tensor) -> torch.Tensor:
    """Logits (batch, channel, ...) -> scores (batch, 1 + class, ...) whose highest channel is the label.

    Sigmoids get a constant background of 0.5: threshold 0.5, the highest wins (METHOD.md, fine network).
    """
    if activation == "softmax":
        return logits.float().softmax(1)
    return F.pad(logits.float().sigmoid(), (0, 0, 0, 0, 0, 0, 1, 0), value=0.5)


def hard_labels(
    activation: Activation, logits: torch.Tensor, classes: tuple[int, ...], *, confidence: float = 0.0
) -> torch.Tensor:
    """Logits (batch, channel, z, y, x) -> uint8 labels (batch, z, y, x), without gradient.

    The highest of `scores_of`, read off the logits: both activations keep their order, and a sigmoid is
    above 0.5 where its logit is above 0. Where the network gives its label (or, with sigmoids, the absence
    of all) less than `confidence`, the voxel is unknown (255).
    """
    logits = logits.detach()
    highest, channel = logits.max(1)
    ids = torch.tensor(channels_of(activation, classes), dtype=torch.uint8, device=logits.device)
    labels = ids[channel]
    if activation == "sigmoid":
        labels = labels * (highest > 0)
    if confidence > 0:
        logarithm = highest - logits.logsumexp(1) if activation == "softmax" else F.logsigmoid(highest.abs())
        labels = torch.where(logarithm.exp() < confidence, UNKNOWN, labels)
    return labels
