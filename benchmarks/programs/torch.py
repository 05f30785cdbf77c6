"""The programs in PyTorch, eager: on as many threads as there are CPUs, or on the device that the environment
names."""
from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.device_limits import TORCH_DEVICE_VARIABLE
from benchmarks.programs import BLOCKS, CHANNELS, HEADS, LARGE, VOCABULARY, WIDTH, Step

torch.set_num_threads(os.cpu_count() or 1)
_DEVICE = torch.device(os.environ.get(TORCH_DEVICE_VARIABLE, "cpu"))
torch.set_default_device(_DEVICE)  # of the models' weights


def _normal(*shape: int) -> Any:
    numbers = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(numbers).to(_DEVICE)


def _labels(classes: int, *shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(0).integers(0, classes, shape)).to(_DEVICE)


def _training(model: Any, optimizer: Any, data: Any, labels: Any) -> Step:
    def step() -> object:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---- convolutional networks ----------------------------------------------------------------------
def lenet() -> Step:
    model = nn.Sequential(
        nn.Conv2d(1, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10))
    return _training(model, torch.optim.Adam(model.parameters(), lr=1e-3), _normal(128, 1, 28, 28),
                     _labels(10, 128))


class _Residual(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Any) -> Any:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)), inplace=True)))
        return F.relu(y + self.shortcut(x), inplace=True)


def _resnet() -> Any:
    def stages() -> Iterator[_Residual]:
        inputs = CHANNELS[0]
        for outputs in CHANNELS:
            yield from (_Residual(inputs, outputs, 1 if outputs == inputs else 2),
                        _Residual(outputs, outputs, 1))
            inputs = outputs

    return nn.Sequential(
        nn.Conv2d(3, CHANNELS[0], 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(CHANNELS[0]),
        nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1), *stages(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(CHANNELS[-1], 1000))


def resnet18(batch: int = 1) -> Step:
    model, images = _resnet().eval(), _normal(batch, 3, 224, 224)

    def step() -> object:
        with torch.no_grad():
            return model(images).cpu().numpy()

    return step


def resnet18_8() -> Step:
    return resnet18(8)


def resnet18_step(batch: int = 8) -> Step:
    model = _resnet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return _training(model, optimizer, _normal(batch, 3, 224, 224), _labels(1000, batch))


def resnet18_64() -> Step:
    return resnet18_step(64)


# ---- texts ---------------------------------------------------------------------------------------
class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Any) -> Any:
        batch, tokens, width = x.shape
        q, k, v = [part.view(batch, tokens, HEADS, -1).transpose(1, 2)
                   for part in self.qkv(self.norm1(x)).split(width, -1)]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


def gpt_block() -> Step:
    block, x = _Block(), _normal(4, 256, WIDTH)
    optimizer = torch.optim.Adam(block.parameters(), lr=1e-4)

    def step() -> object:
        optimizer.zero_grad()
        loss = (block(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


class _GPT(nn.Module):  # type: ignore[misc]
    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(tokens, WIDTH)
        self.blocks = nn.Sequential(*[_Block() for _ in range(BLOCKS)])
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, text: Any) -> Any:
        x = self.words(text) + self.places(torch.arange(text.shape[1]))
        return self.norm(self.blocks(x)) @ self.words.weight.T


def gpt2(tokens: int = 64) -> Step:
    model, text = _GPT(tokens), _labels(VOCABULARY, 1, tokens)
    parameters = list(model.parameters())

    def step() -> object:
        loss = F.cross_entropy(model(text).view(-1, VOCABULARY), text.view(-1))
        torch.autograd.grad(loss, parameters)
        return loss.item()

    return step


def gpt2_step(texts: int = 4, tokens: int = 512) -> Step:
    model, text = _GPT(tokens), _labels(VOCABULARY, texts, tokens)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> object:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(text).view(-1, VOCABULARY), text.view(-1))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def lstm100() -> Step:
    layer, rows = nn.LSTM(128, 128, batch_first=True), _normal(32, 100, 128)
    parameters = list(layer.parameters())

    def step() -> object:
        loss = (layer(rows)[0] ** 2).mean()
        torch.autograd.grad(loss, parameters)
        return loss.item()

    return step


# ---- arrays --------------------------------------------------------------------------------------
def chain() -> Step:
    a, b = _normal(LARGE), _normal(LARGE)

    def step() -> object:
        x = a * b + a
        for _ in range(3):
            x = (x.tanh() * b + 0.5).relu()
        return x.sum().item()

    return step
