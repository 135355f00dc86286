"""Training on Ray Train: DDP workers, one report and checkpoint an epoch, weights into the store.

The loop is in view: `_train_in_worker`. It resumes from the last registered checkpoint by itself, because
the run's name is made of its pins; a finished run is not trained again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pwsseg.networks import losses
from pwsseg.networks.averaging import WeightAverage
from pwsseg.networks.precision import autocast
from pwsseg.networks.schedules import learning_rate
from pwsseg.networks.supervision import (
    Batch,
    build_network,
    cross_supervised_terms,
    ramp_up,
    sum_of,
    supervised_terms,
)
from pwsseg.pipelines.checkpoints import bare, go_on_from, keep_model, report_epoch, resume, shared_scratch
from pwsseg.pipelines.cluster import Resources, check_code
from pwsseg.pipelines.feed import FeedPlan, PatchFeed, ahead
from pwsseg.pipelines.meter import EpochMeter
from pwsseg.pipelines.progress import say
from pwsseg.pipelines.sources import Sources
from pwsseg.rounds import RoundSettings, Scale
from pwsseg.store import Layer, Model, ModelPins, Store
from pwsseg.store.digests import code_digest
from pwsseg.values import DivergedError, PwssegError

GRADIENT_NORM = 12.0
"""Gradients are clipped to this norm."""
GROWTH_S = 30.0
"""How often an elastic training looks for room for more workers; to take it, it begins its epoch again."""


def train_model(store: Store, sources: Sources, targets: Layer, resources: Resources) -> Model:
    """Train a round's network on its targets; the same pins give the model that is already there."""
    settings = sources.settings
    pins = ModelPins(
        name=settings.name,
        targets=(targets.pin,),
        starts_from=sources.starts_from.pin if sources.starts_from else None,
        settings=settings.pinned(),
        cases=tuple(sorted([*targets.cases(), *sources.unlabelled])),
        code=code_digest(),
    )
    if existing := store.trained(pins):
        return existing
    plan = FeedPlan(store.location, targets.id, tuple(targets.cases()), tuple(sources.unlabelled))
    scratch = shared_scratch(store) / f"{settings.name}-{pins.digest[:16]}"
    say(
        f"  {settings.name} · train: {len(plan.labelled)} labelled, {len(plan.unlabelled)} unlabelled cases, "
        f"{settings.epochs} epochs on {_workers(settings.scale)} workers"
    )
    try:
        checkpoint = _fit(settings, plan, pins, sources.starts_from, scratch=scratch, resources=resources)
        model = keep_model(store, pins, checkpoint, settings.prediction)
    except Exception:
        if (theirs := store.trained(pins)) is None:
            raise
        say(f"  {theirs.id} was trained by another driver meanwhile")  # who took the scratch away
        return theirs
    shutil.rmtree(scratch, ignore_errors=True)
    say(f"  trained {model.id}, digest {model.digest[:12]}")
    return model


def _fit(
    settings: RoundSettings,
    plan: FeedPlan,
    pins: ModelPins,
    starts_from: Model | None,
    *,
    scratch: Path,
    resources: Resources,
) -> Path:
    """Run Ray Train and return the folder of the last checkpoint."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = resources.gpus > 0
    least, most = settings.scale.least_training_workers, settings.scale.training_workers
    meter = EpochMeter(settings.name, settings.epochs, run=scratch.name)
    trainer = TorchTrainer(
        _train_in_worker,
        train_loop_config={
            "settings": settings.model_dump(mode="json"),
            "plan": plan,
            "pins": pins,
            "starts_from": (plan.location, starts_from.id) if starts_from else None,
            "meter": meter.actor,
            "code": code_digest(),
        },
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(least, most) if least else most,
            use_gpu=gpu,
            resources_per_worker={"GPU": 1} if gpu else {"CPU": 1},
            elastic_resize_monitor_interval_s=GROWTH_S,
        ),
        run_config=RunConfig(
            storage_path=str(scratch.parent),
            name=scratch.name,
            failure_config=FailureConfig(max_failures=3),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    with meter:
        result = _fitted(trainer)
    if result.checkpoint is None:
        raise PwssegError(f"training {settings.name} ended without a checkpoint; look at {scratch}")
    return Path(result.checkpoint.path)


def _workers(scale: Scale) -> str:
    least, most = scale.least_training_workers, scale.training_workers
    return f"{least} to {most}" if least and least < most else str(most)


def _fitted(trainer: Any) -> Any:
    """What fit() returns; a sentence is raised instead of Ray's account of the end.

    What a worker raised that is neither ours nor due to its surroundings is a bug and stays as it is.
    """
    from ray.exceptions import RayError
    from ray.train import ControllerError, WorkerGroupError

    try:
        return trainer.fit()
    except WorkerGroupError as error:
        failures = list(error.worker_failures.values())
        if own := next((f for f in failures if isinstance(f, PwssegError)), None):
            raise own from error
        around = [f for f in failures if isinstance(f, OSError) or type(f).__module__.startswith("ray.")]
        if not around:
            raise
        cause: Exception = around[0]
    except (RayError, ControllerError) as error:
        cause = error
    raise PwssegError(
        f"the training was cut off ({_last_line(cause)}): no memory or disk left, a machine lost, or another "
        f"driver of the same round; run the same command again, it goes on from the last epoch"
    ) from cause


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:200]


def _train_in_worker(config: dict[str, Any]) -> None:
    """The training loop of one DDP worker."""
    import ray
    from ray import train
    from ray.train.torch import get_device, prepare_model

    check_code(config["code"])
    if Store.open(config["plan"].location).trained(config["pins"]) is not None:
        return  # begun again after another driver was faster and took the scratch away: nothing to learn
    if diverged := ray.get(config["meter"].stopped.remote()):
        raise DivergedError(diverged)  # Ray starts the workers again, as after a node's death
    settings = RoundSettings.model_validate(config["settings"])
    context = train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(1)  # the cores are shared out to workers
    torch.manual_seed(settings.seed)
    network = build_network(settings.network, len(settings.channels), settings.science.supervision)
    if config["starts_from"]:
        location, model = config["starts_from"]
        go_on_from(network, Store.open(location).model(model), channels=settings.channels)
    decay = settings.science.weight_average
    average = WeightAverage(network.to(device), decay=decay) if decay else None
    network = prepare_model(network)
    optimiser = torch.optim.Adam(
        network.parameters(), betas=settings.science.betas, weight_decay=settings.science.weight_decay
    )
    curve = resume(network, optimiser, train.get_checkpoint(), average=average)
    feed = PatchFeed(config["plan"], settings, rank=rank, workers=workers, device=device)
    terms_of = _step_terms(settings, network)
    for epoch in range(len(curve), settings.epochs):
        sums: dict[str, float] = {}
        patches = ahead(feed.epoch(epoch)) if device.type == "cuda" else feed.epoch(epoch)
        for step, (batch, cases) in enumerate(patches):
            progress = (epoch + step / settings.stage.steps_an_epoch) / settings.epochs
            rate = learning_rate(settings.science.schedule, progress) * settings.stage.learning_rate
            for group in optimiser.param_groups:
                group["lr"] = rate
            with autocast(device):
                terms = terms_of(Batch(*(part.to(device, non_blocking=True) for part in batch)), progress)
            total = sum_of(terms.values())
            if not torch.isfinite(total):
                diverged = _diverged(total, epoch, step, cases)
                ray.get(config["meter"].stop.remote(diverged))
                raise DivergedError(diverged)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(total)
            torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
            optimiser.step()
            if average is not None:
                average.update(bare(network))
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term)
        means = {name: value / settings.stage.steps_an_epoch for name, value in sums.items()}
        curve.append({"epoch": epoch, "rate": rate, "loss": sum(means.values()), **means, "workers": workers})
        if rank == 0:
            config["meter"].add.remote(curve[-1])
        report_epoch(network, optimiser, curve, rank, average=average)


def _step_terms(
    settings: RoundSettings, network: torch.nn.Module
) -> Callable[[Batch, float], dict[str, torch.Tensor]]:
    science = settings.science
    loss = losses.loss_named(science.loss, science.classes)
    activation = losses.activation_of(science.loss)
    if science.supervision == "plain":
        return lambda batch, _progress: supervised_terms(network, batch, loss)
    return lambda batch, progress: cross_supervised_terms(
        network,
        batch,
        loss,
        harden=lambda logits: losses.hard_labels(
            activation, logits, science.classes, confidence=science.confidence
        ),
        weight=ramp_up(progress) if science.ramp_up else 1.0,
    )


def _diverged(total: torch.Tensor, epoch: int, step: int, cases: list[str]) -> str:
    return (
        f"the loss is {float(total)} at epoch {epoch}, step {step}, patches of {', '.join(cases)}; look at "
        f"these cases (pwsseg verify) or lower learning_rate in the scale"
    )
