"""A network in use: its layout in memory, its mirror images, its precision."""

from __future__ import annotations

import pytest
import torch

from pwsseg.networks import precision
from pwsseg.networks.plain_conv_unet import PlainConvUNetShape
from pwsseg.networks.prediction import Axis, PostProcessing, PredictionSettings
from pwsseg.networks.supervision import Supervision, build_network
from pwsseg.pipelines.labeller import Labeller

CPU = torch.device("cpu")
PATCH = (8, 16, 16)
SHAPE = PlainConvUNetShape(
    kind="plain-conv-unet",
    widths=(4, 8),
    strides=((2, 2, 2),),
    stem=(1, 1, 1),
    convolutions=1,
    prior=0.5,
)


def settings(mirrored: tuple[Axis, ...], supervision: Supervision = "plain") -> PredictionSettings:
    return PredictionSettings(
        network=SHAPE,
        supervision=supervision,
        predict_with="mean",
        activation="softmax",
        classes=(1, 2, 14),
        spacing=(4.0, 4.0, 4.0),
        clip_hu=(-160.0, 240.0),
        patch=PATCH,
        overlap=0.25,
        windows_a_batch=2,
        mirrored=mirrored,
        post_processing=PostProcessing(largest_component=False, floor_ml={}),
    )


def labeller(mirrored: tuple[Axis, ...], supervision: Supervision = "plain") -> Labeller:
    torch.manual_seed(3)
    network = build_network(SHAPE, 4, supervision).eval()
    return Labeller(settings(mirrored, supervision), network, CPU)


def patches() -> torch.Tensor:
    return torch.randn(2, 1, *PATCH, generator=torch.Generator().manual_seed(5))


AXES: tuple[tuple[Axis, ...], ...] = (("z",), ("y",), ("x",), ("z", "y"), ("y", "x"), ("z", "y", "x"))


@pytest.mark.parametrize("supervision", ["plain", "cross"])
@pytest.mark.parametrize("mirrored", AXES, ids="".join)
def test_a_mirrored_scan_gets_the_mirrored_scores(
    mirrored: tuple[Axis, ...], supervision: Supervision
) -> None:
    symmetric, plain = labeller(mirrored, supervision), labeller((), supervision)
    seen = patches()
    axes = ["zyx".index(a) + 2 for a in mirrored]
    tolerance = 0.02  # bf16, where the processor has it
    torch.testing.assert_close(
        symmetric.scores(seen.flip(axes)).flip(axes), symmetric.scores(seen), atol=tolerance, rtol=0
    )
    assert not torch.allclose(plain.scores(seen.flip(axes)).flip(axes), plain.scores(seen), atol=tolerance)


def test_mirror_images_are_averaged_each_once() -> None:
    seen, plain = patches(), labeller(())
    images = [[], [2], [4], [2, 4]]
    mean = sum(plain.scores(seen.flip(a)).flip(a) for a in images) / 4
    torch.testing.assert_close(labeller(("x", "z")).scores(seen), mean)
    torch.testing.assert_close(labeller(("z", "x", "z")).scores(seen), mean)


@pytest.mark.parametrize("native", [True, False])
def test_gpu_without_bf16_predicts_in_fp16_and_learns_in_fp32(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    asked: list[tuple[torch.dtype, bool]] = []

    def supported(*, including_emulation: bool) -> bool:
        return native or including_emulation

    def noted(device: str, *, dtype: torch.dtype, enabled: bool = True) -> None:
        asked.append((dtype, enabled))

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch, "autocast", noted)
    precision.autocast_predicting(torch.device("cuda"))
    precision.autocast(torch.device("cuda"))
    predicting = (torch.bfloat16, True) if native else (torch.float16, True)
    assert asked == [predicting, (torch.bfloat16, native)]
