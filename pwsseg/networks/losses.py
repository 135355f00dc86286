"""Losses that hear only what is known.

    logits (batch, channel, z, y, x), labels uint8 (batch, z, y, x), known bool (batch, class) -> scalar

A voxel labelled 255 gives neither reward nor penalty, nor does a class that nobody speaks about in a case
(`known` False): a voxel labelled 0 there is "background or that class", of which the marginal loss rewards
the sum. `classes` maps channels to labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F

from pwsseg.values import UNKNOWN

LossName = Literal["dice+focal", "cross-entropy+dice", "marginal-cross-entropy+dice"]
Activation = Literal["sigmoid", "softmax"]
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

IGNORED = -100
"""The channel of an unknown voxel."""

EPSILON = 1e-8
"""Of the Dice quotient (METHOD.md, cross supervision)."""


def one_hot(labels: torch.Tensor, classes: tuple[int, ...]) -> torch.Tensor:
    """Uint8 labels (batch, z, y, x) -> float (batch, class, z, y, x)."""
    ids = torch.tensor(classes, dtype=labels.dtype, device=labels.device)
    return (labels[:, None] == ids[:, None, None, None]).float()


def dice(probabilities: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """1 - mean over classes of (2 sum pg + e) / (sum p^2 + sum g^2 + e), e = 1e-8, on weighted voxels.

    Sums run over batch and space; a class without any weighted voxel is left out of the mean.
    """
    axes = (0, 2, 3, 4)
    p, g = probabilities * weight, truth * weight
    overlap = (2 * (p * g).sum(axes) + EPSILON) / ((p * p).sum(axes) + (g * g).sum(axes) + EPSILON)
    heard = weight.expand_as(p).amax(axes) > 0
    return 1 - (overlap * heard).sum() / heard.sum().clamp_min(1)


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
    """
    truth = one_hot(labels, classes)
    stated = known[:, :, None, None, None] | (labels != 0)[:, None]
    weight = (stated & (labels != UNKNOWN)[:, None]).float()
    probabilities = logits.sigmoid()
    surprise = F.softplus(logits) - logits * truth  # binary cross-entropy, in one kernel fewer than torch's
    focal = surprise * (probabilities - truth).abs().pow(gamma) * weight
    if alpha != 0.5:  # an even balance is one number, not a volume of them
        focal = focal * (2 * (1 - alpha) + (4 * alpha - 2) * truth)
    return dice(probabilities, truth, weight) + 0.5 * focal.sum() / weight.sum().clamp_min(1)


def cross_entropy_dice(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor, *, classes: tuple[int, ...]
) -> torch.Tensor:
    """Cross-entropy + Dice on softmax with a background channel first (Table 3).

    The channels of classes that are unknown in a case are left out of its softmax.
    """
    heard = F.pad(known, (1, 0), value=True)
    channels = _channels(labels, classes)
    if not heard.all():
        logits = logits.masked_fill(~heard[:, :, None, None, None], torch.finfo(logits.dtype).min)
        channels = _spoken(channels, heard)
    return _entropy_and_dice(logits.log_softmax(1), channels, labels, known, classes)


def marginal_cross_entropy_dice(
    logits: torch.Tensor, labels: torch.Tensor, known: torch.Tensor, *, classes: tuple[int, ...]
) -> torch.Tensor:
    """Cross-entropy + Dice on softmax, unknown classes merged into the background (Shi et al., MedIA 2021).

    The softmax runs over all channels. A voxel labelled 0 asks for the sum of the background's and the
    unknown classes' probabilities, however they share it; a voxel of a known class asks for none of it.
    """
    merged = F.pad(~known, (1, 0), value=True)[:, :, None, None, None]
    log_probabilities = logits.log_softmax(1)
    background = log_probabilities.masked_fill(~merged, -torch.inf).logsumexp(1, keepdim=True)
    asked = torch.cat([background, log_probabilities[:, 1:]], dim=1)
    channels = _spoken(_channels(labels, classes), F.pad(known, (1, 0), value=True))
    return _entropy_and_dice(asked, channels, labels, known, classes)


def _entropy_and_dice(
    log_probabilities: torch.Tensor,
    channels: torch.Tensor,
    labels: torch.Tensor,
    known: torch.Tensor,
    classes: tuple[int, ...],
) -> torch.Tensor:
    """The mean cross-entropy over labelled voxels, and Dice over the classes that are known."""
    entropy = F.nll_loss(log_probabilities, channels, ignore_index=IGNORED, reduction="sum")
    weight = (labels != UNKNOWN)[:, None].float()
    known_voxels = weight * known[:, :, None, None, None].float()
    overlap = dice(log_probabilities[:, 1:].exp(), one_hot(labels, classes), known_voxels)
    return overlap + entropy / weight.sum().clamp_min(1)


def _channels(labels: torch.Tensor, classes: tuple[int, ...]) -> torch.Tensor:
    """Labels (batch, z, y, x) -> the channel of each voxel, background first; unknown voxels are ignored."""
    channel = torch.full((UNKNOWN + 1,), IGNORED, device=labels.device)
    channel[[0, *classes]] = torch.arange(len(classes) + 1, device=labels.device)
    return channel[labels.long()]


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


def hard_labels(activation: Activation, logits: torch.Tensor, classes: tuple[int, ...]) -> torch.Tensor:
    """Logits (batch, channel, z, y, x) -> uint8 labels (batch, z, y, x), without gradient.

    The highest of `scores_of`, read off the logits: both activations keep their order, and a sigmoid is
    above 0.5 where its logit is above 0.
    """
    highest, channel = logits.detach().max(1)
    ids = torch.tensor(channels_of(activation, classes), dtype=torch.uint8, device=logits.device)
    labels = ids[channel]
    return labels if activation == "softmax" else labels * (highest > 0)
