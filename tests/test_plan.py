"""A plan's figures are those of the run that it stands for."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from road import REPOSITORY, Road, answer

from pwsseg.networks.coarse_unet import CoarseUNetShape
from pwsseg.networks.cost import cost_of
from pwsseg.networks.plain_conv_unet import PlainConvUNetShape
from pwsseg.networks.supervision import build_network
from pwsseg.pipelines.plan import flare_work, plan_round
from pwsseg.rounds import load_round
from pwsseg.values import SettingsError

UNET = PlainConvUNetShape(
    kind="plain-conv-unet",
    widths=(4, 8),
    strides=((2, 2, 2),),
    stem=(1, 2, 2),
    convolutions=2,
    prior=0.02,
)
COARSE = CoarseUNetShape(kind="coarse-unet", widths=(8, 16, 32, 64, 128))


def test_parameters_are_those_of_the_paper_and_twice_as_many_under_cross_supervision() -> None:
    one = cost_of(COARSE, channels=13, patch=(32, 32, 32), supervision="plain")
    two = cost_of(COARSE, channels=13, patch=(32, 32, 32), supervision="cross")
    assert (one.parameters, two.parameters) == (2_676_552, 2 * 2_676_552)
    assert (two.flops, two.weights_bytes) == (2 * one.flops, 2 * one.weights_bytes)
    assert one.weights_bytes == 4 * one.parameters


def test_operations_grow_with_the_patch() -> None:
    small = cost_of(UNET, channels=15, patch=(16, 32, 32), supervision="plain")
    large = cost_of(UNET, channels=15, patch=(32, 64, 64), supervision="plain")
    assert large.flops == 8 * small.flops
    assert large.parameters == small.parameters


def test_what_is_kept_is_what_autograd_keeps_when_it_runs() -> None:
    network = build_network(UNET, 15, "plain")
    weights = {p.data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.zeros(1, 1, 16, 32, 32))
    planned = cost_of(UNET, channels=15, patch=(16, 32, 32), supervision="plain")
    assert planned.kept_bytes == pytest.approx(sum(kept.values()), rel=0.02)


def test_paper_scale_without_a_store() -> None:
    settings = load_round("ots1", "flare23", folder=REPOSITORY / "jobs")
    plan = plan_round(settings, flare_work(), gpus=8, tflops=30.0)
    (network,) = plan.networks
    assert network.steps == 1000 * 250
    assert network.patches_a_step == 2  # no unlabelled ones: ots1 leaves these out
    per_patch = cost_of(
        settings.network, channels=15, patch=settings.stage.patch, supervision="plain"
    ).training_flops
    assert network.training_flops == 250_000 * 2 * per_patch
    assert network.training_hours == pytest.approx(network.training_flops / 30e12 / 3600)
    assert network.prediction_hours == pytest.approx(network.prediction_flops / 8 / 30e12 / 3600)
    assert plan.hours == network.training_hours + network.prediction_hours
    assert plan.cases["predicted"] == 4100
    assert network.windows == 4100 * 100  # 100 slices in 4 rows of 5 by 5
    assert "FLARE23" in plan.assumed
    more = plan_round(settings, flare_work(100_000), gpus=8, tflops=30.0)
    assert more.cases == {"full": 6250, "partial": 48750, "unlabelled": 45000} | {
        "trained": 55_000,
        "predicted": 100_100,
    }
    assert more.prepared_bytes == pytest.approx(25 * plan.prepared_bytes), "only what is learnt from"
    assert more.networks[0].training_hours == network.training_hours
    assert "100000 scans annotated like FLARE23's 4000" in more.assumed


def test_cascade_plans_both_networks_and_says_when_gpus_are_too_few() -> None:
    settings = load_round("os1", "flare23", folder=REPOSITORY / "jobs")
    plan = plan_round(settings, flare_work(), gpus=1, tflops=30.0)
    assert [n.name for n in plan.networks] == ["os1-coarse", "os1"]
    assert [n.patches_a_step for n in plan.networks] == [16, 2]
    assert all(n.windows == plan.cases["predicted"] for n in plan.networks)
    four = settings.model_copy(update={"scale": settings.scale.model_copy(update={"training_workers": 4})})
    with pytest.raises(SettingsError, match="trains on 4 workers with a GPU each, and 2 are given"):
        plan_round(four, flare_work(), gpus=2, tflops=30.0)


def test_training_that_may_go_on_with_fewer_workers_is_planned_with_the_gpus_that_there_are() -> None:
    settings = load_round("ots2", "flare23", folder=REPOSITORY / "jobs")
    elastic = settings.scale.model_copy(update={"training_workers": 4, "least_training_workers": 2})
    settings = settings.model_copy(update={"scale": elastic})
    three, four, eight = (plan_round(settings, flare_work(), gpus=n, tflops=30.0) for n in (3, 4, 8))
    assert [p.training_workers for p in (three, four, eight)] == [3, 4, 4]
    assert three.networks[0].training_hours == pytest.approx(four.networks[0].training_hours * 4 / 3)
    with pytest.raises(SettingsError, match="trains on 2 workers"):
        plan_round(settings, flare_work(), gpus=1, tflops=30.0)


def test_plan_of_a_store_counts_its_cases(ingested: Road) -> None:
    said = ("--round", "ots2", "--scale", "tiny", "--settings", ingested.settings, "--gpus", 2)
    plan = answer("plan", ingested.store, *said)
    kinds = {"full": 2, "partial": 3, "unlabelled": 1}
    assert plan["cases"] == kinds | {"trained": 6, "predicted": 7}
    assert plan["networks"][0]["steps"] == 2
    assert plan["assumed"] == ""
    assert plan["layer_bytes"] > 0


def test_text_names_every_network_and_total() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pwsseg.cli", "plan", "--round", "os1", "--gpus", "8"],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    for word in ("os1-coarse", "os1 ", "PFLOP", "prepared scans", "8 GPUs labelling"):
        assert word in done.stdout
