"""Images per second of the same training in idiomatic PyTorch.

For `benchmarks.training`: the same network, loss, optimiser, batch and augmentation, operation by
operation, in an ordinary loop over tensors in memory, with autocast for bfloat16, images with their
channels last and the fused optimiser.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.training import CLASSES, WARM_UP
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


class ResidualMLP(nn.Module):
    """`residual_mlp` in PyTorch, from normalised pixels (N, 32, 32, 3) to logits (N, C)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.pixels = nn.Linear(3 * SIZE * SIZE, settings.width)
        self.blocks = nn.Sequential(
            *(Block(settings.width, settings.expansion) for _ in range(settings.depth))
        )
        self.normalisation_out = nn.LayerNorm(settings.width, eps=1e-3)
        self.logits = nn.Linear(settings.width, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.pixels(pixels.flatten(1))
        return self.logits(self.normalisation_out(self.blocks(features)))


class Residual(nn.Sequential):
    """A residual connection: adds the output of its layers to the input."""

    def forward(self, features: Tensor) -> Tensor:
        return features + super().forward(features)


class ResNet9(nn.Module):
    """`cnn` in PyTorch for images of 32 pixels, from normalised pixels to logits."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        before, *stages = settings.channels
        layers = [convolution(3, before)]
        for number, channels in enumerate(stages, start=1):
            layers.append(convolution(before, channels, pool=True))
            if number % 2:
                layers.append(Residual(*(convolution(channels, channels) for _ in range(2))))
            before = channels
        self.features = nn.Sequential(*layers)
        self.logits = nn.Linear(before, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.features(pixels.permute(0, 3, 1, 2))  # the memory stays: channels last
        return self.logits(features.amax(dim=(2, 3)) / 8)


def convolution(before: int, channels: int, *, pool: bool = False) -> nn.Sequential:
    """Returns a 3×3 convolution, a pooling if asked for, normalisation and ReLU."""
    layers = [
        nn.Conv2d(before, channels, 3, padding=1, bias=False),
        nn.MaxPool2d(2) if pool else nn.Identity(),
        nn.BatchNorm2d(channels, eps=1e-3, momentum=0.1),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers)


class Network(nn.Sequential):
    """A network of the settings, from raw pixels (N, 32, 32, 3) to logits (N, C)."""

    def __init__(self, settings: Settings) -> None:
        kinds = {"residual_mlp": ResidualMLP, "cnn": ResNet9}
        super().__init__(kinds[settings.architecture](settings))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        return self[0]((images - 127.5) / 73.9)


def augment(images: Tensor, targets: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Crops, shifts, flips, erases, pastes and mixes as `classifier.training.augmentation` does.

    Images are float32, (N, 32, 32, 3), targets float32, (N, C).
    """
    count = len(images)
    area = torch.empty(count).uniform_(settings.crop_area, 1)
    limit = math.log(settings.crop_aspect) / 2
    stretch = torch.empty(count).uniform_(-limit, limit).exp()
    height = (area.sqrt() * stretch).clamp(max=1)
    width = (area.sqrt() / stretch).clamp(max=1)
    top, left = (torch.rand(count) * (1 - extent) * SIZE for extent in (height, width))
    if settings.shift:
        top = top + torch.randint(-settings.shift, settings.shift + 1, (count,))
        left = left + torch.randint(-settings.shift, settings.shift + 1, (count,))
    mirrored = (torch.rand(count) < settings.flip).float()
    rows = sampling_matrix(top, height, torch.zeros(count))
    columns = sampling_matrix(left, width, mirrored)
    images = torch.bmm(rows, images.reshape(-1, SIZE, 3 * SIZE)).reshape(-1, SIZE, SIZE, 3)
    images = images.transpose(1, 2).reshape(-1, SIZE, 3 * SIZE)
    images = torch.bmm(columns, images).reshape(-1, SIZE, SIZE, 3).transpose(1, 2)
    if settings.erasing:
        sides = torch.empty(2, count).uniform_(0.1, 0.5)
        images = images.masked_fill(rectangles(settings.erasing, sides)[..., None], 127.5)
    if settings.cutmix:
        inside = rectangles(settings.cutmix, torch.rand(count).sqrt().expand(2, -1))
        images = torch.where(inside[..., None], images.roll(1, 0), images)
        targets = torch.lerp(targets, targets.roll(1, 0), inside.float().mean((1, 2))[:, None])
    if settings.mixup:
        share = torch.distributions.Beta(settings.mixup, settings.mixup).sample((count, 1))
        images = torch.lerp(images.roll(1, 0), images, share[..., None, None])
        targets = torch.lerp(targets.roll(1, 0), targets, share)
    return images.contiguous(), targets


def rectangles(probability: float, sides: Tensor) -> Tensor:
    """Draws a rectangle in each image with this probability: bool, (N, 32, 32).

    The sides, (2, N), are heights and widths as fractions of the image's side.
    """
    count = sides.shape[1]
    centres = torch.rand(2, count, 1) * (SIZE - 1)
    rows, columns = (torch.arange(SIZE) - centres).abs() < sides[..., None] * SIZE / 2
    chosen = torch.rand(count, 1, 1) < probability
    return chosen & rows[:, :, None] & columns[:, None, :]


def sampling_matrix(offset: Tensor, extent: Tensor, mirrored: Tensor) -> Tensor:
    """Builds the matrices of `classifier.training.augmentation.sampling_matrix`, (N, 32, 32)."""
    pixels = torch.arange(SIZE, dtype=torch.float32)
    steps = pixels[None] + 0.5
    steps = torch.where(mirrored[:, None] > 0, SIZE - steps, steps)
    places = (offset[:, None] + steps * extent[:, None] - 0.5).clamp(0, SIZE - 1)
    return (1 - (places[:, :, None] - pixels).abs()).clamp(min=0)


def trainer(settings: Settings, number_format: str, images: int) -> Callable[[], float]:
    """Returns a function that trains on random images and returns their number per second."""
    torch.manual_seed(0)
    network = Network(settings)
    optimizer = build_optimizer(network, settings)
    loss_function = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    steps = images // settings.batch_size
    network.train()

    def train() -> float:
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
        return round(steps * settings.batch_size / (time.perf_counter() - start), 1)

    return train


def build_optimizer(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Returns the optimiser of the settings, without decay of biases and normalisations."""
    parameters = list(network.parameters())
    # The gradient of an L2 penalty of l2 · w² is 2 · l2 · w, which SGD's weight decay adds, too.
    decay = settings.weight_decay or 2 * settings.l2
    groups = [
        {"params": [x for x in parameters if x.ndim > 1], "weight_decay": decay},
        {"params": [x for x in parameters if x.ndim == 1], "weight_decay": 0.0},
    ]
    common: dict[str, Any] = {"lr": settings.learning_rate, "fused": True}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=True, **common)
    return torch.optim.AdamW(groups, **common)


def batches(steps: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields noise with random labels, from tensors in memory, in random order."""
    count = steps * batch_size
    images = torch.randint(0, 256, (count, SIZE, SIZE, 3), dtype=torch.uint8)
    targets = functional.one_hot(torch.randint(0, CLASSES, (count,)), CLASSES).float()
    for chosen in torch.randperm(count).split(batch_size):
        yield images[chosen], targets[chosen]
