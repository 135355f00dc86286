"""A batch teaches the same however many workers share it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from road import Road, round_job, write_settings
from safetensors.torch import load
from torch import distributed
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from pwsseg.networks.losses import LossName, activation_of, hard_labels, loss_named
from pwsseg.networks.plain_conv_unet import PlainConvUNetShape
from pwsseg.networks.supervision import Batch, Supervision, build_network, cross_supervised_terms, sum_of
from pwsseg.networks.supervision import supervised_terms as supervised
from pwsseg.pipelines.feed import FeedPlan, PatchFeed
from pwsseg.rounds import load_round
from pwsseg.store import Store

CLASSES = (1, 2, 14)
SHAPE = PlainConvUNetShape(
    kind="plain-conv-unet", widths=(4, 6), strides=((2, 2, 2),), stem=(1, 2, 2), convolutions=1, prior=0.02
)
STEPS = 3
WORKERS = (1, 2, 3, 4)  # of three, one has two of the four labelled patches
WAYS: tuple[tuple[LossName, Supervision], ...] = (
    ("cross-entropy+dice", "plain"),
    ("marginal-cross-entropy+dice", "plain"),
    ("dice+focal", "cross"),
)


def batch_of(step: int) -> Batch:
    """Four labelled patches, of which some speak about fewer classes, and four unlabelled ones."""
    random = np.random.default_rng(step)
    values, shares = np.array([0, 1, 2, 14, 255], np.uint8), (0.6, 0.2, 0.1, 0.05, 0.05)
    labels = random.choice(values, (4, 8, 16, 16), p=shares)
    known = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 1, 1]], bool)
    for case, heard in zip(labels, known, strict=True):
        case[np.isin(case, np.asarray(CLASSES)[~heard])] = 0
    images = random.normal(size=(8, 1, 8, 16, 16)).astype(np.float32)
    return Batch(torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(known))


def shared_out(batch: Batch, rank: int, workers: int) -> Batch:
    labelled = slice(rank, 4, workers)
    images = torch.cat([batch.images[:4][labelled], batch.images[4:][labelled]])
    return Batch(images, batch.labels[labelled], batch.known[labelled])


def train(rank: int, workers: int, folder: str) -> None:
    """A few steps with every way of learning; worker 0 keeps weights and losses."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet-{workers}", rank=rank, world_size=workers
    )
    kept = {name: learnt(name, supervision, rank, workers) for name, supervision in WAYS}
    if rank == 0:
        torch.save(kept, f"{folder}/{workers}.pt")
    distributed.destroy_process_group()


def learnt(loss_name: LossName, supervision: Supervision, rank: int, workers: int) -> dict[str, torch.Tensor]:
    """The weights after a few steps, and the losses on the way."""
    torch.manual_seed(0)
    softmax = loss_name != "dice+focal"
    network = build_network(SHAPE, len(CLASSES) + softmax, supervision)
    parallel = DistributedDataParallel(network)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    loss, activation = loss_named(loss_name, CLASSES), activation_of(loss_name)
    totals = []
    for step in range(STEPS):
        batch = shared_out(batch_of(step), rank, workers)
        if supervision == "cross":
            terms = cross_supervised_terms(
                parallel, batch, loss, harden=lambda logits: hard_labels(activation, logits, CLASSES)
            )
        else:
            terms = supervised(parallel, batch._replace(images=batch.images[: len(batch.labels)]), loss)
        total = sum_of(terms.values())
        optimiser.zero_grad()
        torch.autograd.backward(total)
        optimiser.step()
        totals.append(total.detach())
    return {**network.state_dict(), "losses": torch.stack(totals)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, dict[str, torch.Tensor]]]:
    """What one to four workers learnt from the same batches."""
    folder = tmp_path_factory.mktemp("ddp")
    for workers in WORKERS:
        spawn(train, (workers, str(folder)), nprocs=workers)  # type: ignore[no-untyped-call]
    return {workers: torch.load(folder / f"{workers}.pt", weights_only=True) for workers in WORKERS}


@pytest.mark.parametrize("loss_name", [name for name, _ in WAYS])
@pytest.mark.parametrize("workers", WORKERS[1:])
def test_steps_of_several_workers_are_those_of_one(
    found: dict[int, dict[str, dict[str, torch.Tensor]]], workers: int, loss_name: str
) -> None:
    alone, shared = found[1][loss_name], found[workers][loss_name]
    assert torch.allclose(shared["losses"], alone["losses"], rtol=1e-5)
    for name, weights in alone.items():
        assert torch.allclose(shared[name], weights, rtol=1e-3, atol=1e-5), name


def test_a_batch_holds_the_same_patches_however_many_workers_share_it(road: Road) -> None:
    settings = load_round("os1", "tiny", folder=road.settings)
    size = settings.scale.os.model_copy(update={"labelled_batch": 4, "unlabelled_batch": 4})
    settings = settings.model_copy(update={"scale": settings.scale.model_copy(update={"os": size})})
    store = Store.open(road.store)
    labelled = tuple(store.layer("os1-targets").cases())
    unlabelled = tuple(c for c in store.layer("os1").cases() if c not in labelled)
    plan = FeedPlan(store.location, "os1-targets.v1", labelled, unlabelled)

    def sums(workers: int) -> list[list[float]]:
        feeds = [PatchFeed(plan, settings, rank=r, workers=workers).epoch(1) for r in range(workers)]
        steps = zip(*feeds, strict=True)
        return [sorted(float(i.double().sum()) for batch, _ in step for i in batch.images) for step in steps]

    alone = sums(1)
    assert len(alone) == settings.stage.steps_an_epoch
    assert all(len(step) == 8 for step in alone)
    assert sums(2) == sums(3) == sums(4) == alone


def test_round_trained_by_one_worker_learns_as_by_two(road: Road, ingested: Road, tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "settings", ("training_workers = 2", "training_workers = 1"))
    store = tmp_path / "store"
    shutil.copytree(ingested.store, store)
    round_job("os1", settings, store).expect(0)
    alone, shared = (Store.open(place).model("os1") for place in (store, road.store))
    for mine, theirs in zip(alone.curve(), shared.curve(), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-2)
    others = load(shared.weights_bytes())
    for name, weights in load(alone.weights_bytes()).items():
        assert torch.allclose(weights, others[name], atol=1e-2), name
