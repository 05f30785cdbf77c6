"""The programs in pluggrad, written as its users would write them."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.programs import BLOCKS, CHANNELS, HEADS, LARGE, VOCABULARY, WIDTH, Step
from pluggrad import Tensor, jit, nn
from pluggrad.nn import optim


def _normal(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def _labels(classes: int, *shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).integers(0, classes, shape))


def _training(model: nn.Module | nn.Sequential, optimizer: optim.Optimizer, data: Tensor,
              labels: Tensor) -> Step:
    @jit
    def step(data: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(data).cross_entropy(labels)
        loss.backward()
        optimizer.step()
        return loss

    def run() -> object:
        with Tensor.train():
            return step(data, labels).item()

    return run


# ---- convolutional networks ----------------------------------------------------------------------
def lenet() -> Step:
    model = nn.Sequential(
        nn.Conv2d(1, 32, 5), Tensor.relu, nn.MaxPool2d(2), nn.Conv2d(32, 64, 5), Tensor.relu, nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1024, 256), Tensor.relu, nn.Linear(256, 10))
    return _training(model, optim.Adam([model], lr=1e-3), _normal(128, 1, 28, 28), _labels(10, 128))


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = None if stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + (x if self.shortcut is None else self.shortcut(x))).relu()


def _resnet() -> nn.Sequential:
    def stages() -> Iterator[_Residual]:
        inputs = CHANNELS[0]
        for outputs in CHANNELS:
            yield from (_Residual(inputs, outputs, 1 if outputs == inputs else 2),
                        _Residual(outputs, outputs, 1))
            inputs = outputs

    return nn.Sequential(
        nn.Conv2d(3, CHANNELS[0], 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(CHANNELS[0]),
        Tensor.relu, nn.MaxPool2d(3, stride=2, padding=1), *stages(), lambda x: x.mean((2, 3)),
        nn.Linear(CHANNELS[-1], 1000))


def resnet18(batch: int = 1) -> Step:
    model, images = _resnet(), _normal(batch, 3, 224, 224)
    forward = jit(lambda images: model(images))
    return lambda: forward(images).numpy()


def resnet18_8() -> Step:
    return resnet18(8)


def resnet18_step(batch: int = 8) -> Step:
    model = _resnet()
    optimizer = optim.SGD([model], lr=0.01, momentum=0.9)
    return _training(model, optimizer, _normal(batch, 3, 224, 224), _labels(1000, batch))


def resnet18_64() -> Step:
    return resnet18_step(64)


# ---- texts ---------------------------------------------------------------------------------------
class _Block(nn.Module):
    def __init__(self) -> None:
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = [part.reshape(batch, tokens, HEADS, -1).transpose(1, 2)
                   for part in self.qkv(self.norm1(x)).split(width, -1)]
        attended = q.scaled_dot_product_attention(k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.down(self.up(self.norm2(x)).gelu())


def gpt_block() -> Step:
    block, x = _Block(), _normal(4, 256, WIDTH)
    optimizer = optim.Adam([block], lr=1e-4)

    @jit
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = (block(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    def run() -> object:
        with Tensor.train():
            return step(x).item()

    return run


class _GPT(nn.Module):
    def __init__(self, tokens: int) -> None:
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(tokens, WIDTH)
        self.blocks = [_Block() for _ in range(BLOCKS)]
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, text: Tensor) -> Tensor:
        x = self.words(text) + self.places(Tensor.arange(text.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.norm(x) @ self.words.weight.transpose()
        return logits


def gpt2(tokens: int = 64) -> Step:
    return _gradients(_GPT(tokens), _labels(VOCABULARY, 1, tokens))


def gpt2_step(texts: int = 4, tokens: int = 512) -> Step:
    model, text = _GPT(tokens), _labels(VOCABULARY, texts, tokens)
    optimizer = optim.Adam([model], lr=1e-4)

    @jit
    def step(text: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(text).reshape(-1, VOCABULARY).cross_entropy(text.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    def run() -> object:
        with Tensor.train():
            return step(text).item()

    return run


def lstm100() -> Step:
    layer, rows = nn.LSTM(128, 128, batch_first=True), _normal(32, 100, 128)
    parameters = nn.state.get_parameters(layer)

    @jit
    def step(rows: Tensor) -> tuple[Tensor, ...]:
        loss = (layer(rows)[0] ** 2).mean()
        return (loss, *loss.gradient(*parameters))

    return lambda: step(rows)[0].item()


def _gradients(model: nn.Module, text: Tensor) -> Step:
    parameters = nn.state.get_parameters(model)

    @jit
    def step(text: Tensor) -> tuple[Tensor, ...]:
        loss: Tensor = model(text).reshape(-1, VOCABULARY).cross_entropy(text.reshape(-1))
        return (loss, *loss.gradient(*parameters))

    return lambda: step(text)[0].item()


# ---- arrays --------------------------------------------------------------------------------------
def chain() -> Step:
    a, b = _normal(LARGE), _normal(LARGE)

    def step() -> object:
        x = a * b + a
        for _ in range(3):
            x = (x.tanh() * b + 0.5).relu()
        return x.sum().item()

    return step
