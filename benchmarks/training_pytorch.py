"""Images per second of the same training in PyTorch, written as one writes it there.

For `benchmarks.training`: the same network, loss, optimiser, batch and augmentation, operation by
operation, in an ordinary loop over tensors in memory, with autocast for bfloat16.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.training import CLASSES, SETTINGS, WARM_UP
from classifier.settings import Settings

SIZE = 32


class Block(nn.Module):
    """A residual inverted bottleneck."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.normalisation = nn.LayerNorm(width, eps=1e-3)
        self.expand = nn.Linear(width, width * expansion)
        self.contract = nn.Linear(width * expansion, width)

    def forward(self, features: Tensor) -> Tensor:
        inner = functional.silu(self.expand(self.normalisation(features)))
        return features + self.contract(inner)


class Network(nn.Module):
    """What `residual_mlp` is, from raw pixels (N, 32, 32, 3) to logits (N, C)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.pixels = nn.Linear(3 * SIZE * SIZE, settings.width)
        self.blocks = nn.Sequential(
            *(Block(settings.width, settings.expansion) for _ in range(settings.depth))
        )
        self.normalisation_out = nn.LayerNorm(settings.width, eps=1e-3)
        self.logits = nn.Linear(settings.width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pixels(((images - 127.5) / 73.9).flatten(1))
        return self.logits(self.normalisation_out(self.blocks(features)))


def augment(images: Tensor, targets: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Crops, flips and mixes, as `classifier.training.augmentation` does.

    Args:
        images: float32, (N, 32, 32, 3).
        targets: float32, (N, C).
        settings: the strength of each.
    """
    count = len(images)
    area = torch.empty(count).uniform_(settings.crop_area, 1)
    limit = math.log(settings.crop_aspect) / 2
    stretch = torch.empty(count).uniform_(-limit, limit).exp()
    height = (area.sqrt() * stretch).clamp(max=1)
    width = (area.sqrt() / stretch).clamp(max=1)
    top, left = (torch.rand(count) * (1 - extent) * SIZE for extent in (height, width))
    mirrored = (torch.rand(count) < settings.flip).float()
    rows = sampling_matrix(top, height, torch.zeros(count))
    columns = sampling_matrix(left, width, mirrored)
    images = torch.bmm(rows, images.reshape(-1, SIZE, 3 * SIZE)).reshape(-1, SIZE, SIZE, 3)
    images = images.transpose(1, 2).reshape(-1, SIZE, 3 * SIZE)
    images = torch.bmm(columns, images).reshape(-1, SIZE, SIZE, 3).transpose(1, 2)
    share = torch.distributions.Beta(settings.mixup, settings.mixup).sample((count, 1))
    images = torch.lerp(images.roll(1, 0), images, share[..., None, None])
    return images, torch.lerp(targets.roll(1, 0), targets, share)


def sampling_matrix(offset: Tensor, extent: Tensor, mirrored: Tensor) -> Tensor:
    """Builds the matrices of `classifier.training.augmentation.sampling_matrix`, (N, 32, 32)."""
    pixels = torch.arange(SIZE, dtype=torch.float32)
    steps = pixels[None] + 0.5
    steps = torch.where(mirrored[:, None] > 0, SIZE - steps, steps)
    places = (offset[:, None] + steps * extent[:, None] - 0.5).clamp(0, SIZE - 1)
    return (1 - (places[:, :, None] - pixels).abs()).clamp(min=0)


def images_per_second(
    settings: Settings, number_format: str, images: int, *, fused: bool, compiled: bool
) -> float:
    """Trains on random images.

    Args:
        settings: of the network, the optimiser, the augmentation and the batch.
        number_format: "float32" or "bfloat16".
        images: how many are timed, in whole batches.
        fused: whether AdamW is PyTorch's fused one.
        compiled: whether the network goes through `torch.compile`.
    """
    torch.manual_seed(0)
    network: nn.Module = Network(settings)
    optimizer = build_optimizer(network, settings, fused=fused)
    if compiled:
        network = torch.compile(network)  # type: ignore[assignment]
    loss_function = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    steps = images // settings.batch_size
    network.train()
    start = 0.0
    for number, (pixels, targets) in enumerate(batches(WARM_UP + steps, settings.batch_size)):
        if number == WARM_UP:
            start = time.perf_counter()
        pixels, targets = augment(pixels.float(), targets, settings)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=number_format == "bfloat16"):
            loss = loss_function(network(pixels), targets)
        loss.backward()
        optimizer.step()
    return steps * settings.batch_size / (time.perf_counter() - start)


def build_optimizer(
    network: nn.Module, settings: Settings, *, fused: bool
) -> torch.optim.Optimizer:
    """Returns AdamW that, as ours, lets biases and normalisations be."""
    parameters = list(network.parameters())
    groups = [
        {"params": [x for x in parameters if x.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [x for x in parameters if x.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=fused or None)


def batches(steps: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields noise with random labels, from tensors in memory, in random order."""
    count = steps * batch_size
    images = torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8)
    targets = functional.one_hot(torch.randint(0, CLASSES, (count,)), CLASSES).float()
    for chosen in torch.randperm(count).split(batch_size):
        yield images[chosen], targets[chosen]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--fused", action="store_true")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    speed = images_per_second(
        SETTINGS.replace(batch_size=options.batch_size),
        options.precision,
        options.images,
        fused=options.fused,
        compiled=options.compile,
    )
    print(json.dumps({"images_per_second": round(speed, 1)}))
