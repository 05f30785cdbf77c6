"""Learn by trying to balance a pole on a cart: reinforcement learning by proximal policy optimization.

    python examples/cartpole.py                   10 seconds; then 100 episodes as a check, and a picture
    python examples/cartpole.py --device NAME     one of: python -m pluggrad devices

The agent pushes the cart to the left or to the right, 50 times a second. An episode ends when the pole falls
or the cart leaves the track, or after 500 steps. Each step is rewarded by 1, so its return is its length.
J. Schulman et al., "Proximal Policy Optimization Algorithms", https://arxiv.org/abs/1707.06347.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from pluggrad import Device, Tensor, __version__, jit, nn, set_default_device
from pluggrad.errors import UserError

Array: TypeAlias = npt.NDArray[Any]
CARTS, HORIZON = 32, 32  # carts that run side by side, and the steps of each between two rounds of learning
BATCH, UPDATES = 256, 40  # steps looked at in an update, and updates in a round
LEARNING_RATE = 1e-3  # at the start; it falls to 0
DISCOUNT = 0.98  # a reward counts half when it comes 35 steps later
TRACE = 0.9  # the lambda of the advantages: with 0 they trust the critic, with 1 what happened
CLIP = 0.2  # a round may make an action at most this much likelier, or less likely
EVALUATED = 100  # episodes of the final check
FRESH = 1_000_000  # added to the seed for them, so that no cart starts as one did in training


class Agent:
    """The actor says how likely it takes each action, the critic what return it expects from here on."""

    def __init__(self) -> None:
        self.actor = self.network(2)
        self.critic = self.network(1)

    @staticmethod
    def network(outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(4, 64), Tensor.tanh,
            nn.Linear(64, 64), Tensor.tanh,
            nn.Linear(64, outputs),
        )

    def __call__(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States (n, 4) to the logarithms of the actions' probabilities (n, 2), and values (n,)."""
        return self.actor(states).log_softmax(1), self.critic(states).squeeze(1)


class Steps(NamedTuple):
    """What happened in a round, one row for each step of a cart."""

    states: Array
    actions: Array
    log_probs: Array  # of the action, when it was taken
    advantages: Array  # how much better it went than the critic expected
    returns: Array  # what the critic should have expected


Act: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


def actor_of(agent: Agent) -> Act:
    """States to random actions, the logarithms of their probabilities, and values."""

    @jit
    def act(states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with Tensor.no_grad():
            log_probs, values = agent(states)
            actions = log_probs.exp().multinomial()  # one for each state
            return actions.squeeze(1), log_probs.gather(1, actions).squeeze(1), values

    return act


class Carts:
    """Many carts at once, each of which starts anew after its episode; `lengths` holds those that ended."""

    def __init__(self, count: int, seed: int) -> None:
        self.environment = gymnasium.make_vec("CartPole-v1", count, vectorization_mode="sync")
        self.states, _ = self.environment.reset(seed=seed)
        self.ended = np.zeros(count, dtype=bool)
        self.age = np.zeros(count, dtype=int)
        self.lengths = list[int]()

    def step(self, actions: Array) -> tuple[Array, Array]:
        """Rewards (n,), and which poles fell (n,). A cart that ended before is only put back: 0, False."""
        self.states, rewards, fell, too_long, _ = self.environment.step(actions)
        self.age += 1
        self.age[self.ended] = 0
        self.ended = fell | too_long
        self.lengths += self.age[self.ended].tolist()
        return rewards, fell


def play(act: Act, carts: Carts) -> Steps:
    """One round: HORIZON steps of every cart, and how good they turned out."""
    rows = []
    for _ in range(HORIZON):
        states, put_back = carts.states, carts.ended
        actions, log_probs, values = (result.numpy() for result in act(Tensor(states)))
        rewards, fell = carts.step(actions)
        rows.append((states, actions, log_probs, values, rewards, fell, carts.ended, put_back))
    columns = (np.stack(column) for column in zip(*rows))  # each (HORIZON, carts, ...)
    states, actions, log_probs, values, rewards, fell, ended, put_back = columns

    # backward in time: a step is as good as its reward, and what is expected after it
    advantages = np.zeros_like(values)
    following, later = act(Tensor(carts.states))[2].numpy(), np.zeros_like(values[0])
    for now in reversed(range(HORIZON)):
        surprise = rewards[now] + DISCOUNT * following * ~fell[now] - values[now]
        advantages[now] = later = surprise + DISCOUNT * TRACE * later * ~ended[now]
        following = values[now]
    parts = states, actions, log_probs, advantages, advantages + values
    return Steps(*(part[~put_back] for part in parts))


def train(agent: Agent, options: argparse.Namespace) -> list[int]:
    """Rounds of playing and learning; the length of every episode, in the order in which they ended."""
    optimizer = nn.optim.Adam([agent], lr=LEARNING_RATE)

    @jit  # the first call records what is computed, the others repeat it without Python in between
    def update(states: Tensor, actions: Tensor, before: Tensor, better: Tensor, returns: Tensor) -> Tensor:
        optimizer.zero_grad()
        log_probs, values = agent(states)
        ratio = (log_probs.gather(1, actions.unsqueeze(1)).squeeze(1) - before).exp()
        better = (better - better.mean()) / (better.std() + 1e-6)
        # beyond the clip nothing is gained, so that a round does not run away with what it saw
        gain = (ratio * better).minimum(ratio.clamp(1 - CLIP, 1 + CLIP) * better)
        loss = 0.5 * (values - returns).square().mean() - gain.mean()
        loss.backward()
        optimizer.step()
        return loss

    random, carts, act = np.random.default_rng(options.seed), Carts(CARTS, options.seed), actor_of(agent)
    rounds = max(1, options.steps // (CARTS * HORIZON))
    interval = 0.1 if sys.stderr.isatty() else 5.0  # in a log file the bar is a line now and then
    with tqdm(total=rounds * CARTS * HORIZON, unit=" steps", unit_scale=True, mininterval=interval) as bar:
        for number in range(rounds):
            optimizer.lr = LEARNING_RATE * (1 - number / rounds)
            steps = play(act, carts)
            for _ in range(UPDATES):
                chosen = random.integers(len(steps.states), size=BATCH)
                update(*(Tensor(part[chosen]) for part in steps))
            bar.set_postfix(length=f"{np.mean(carts.lengths[-100:] or [0]):.0f}", refresh=False)
            bar.update(CARTS * HORIZON)
    return carts.lengths


def evaluate(agent: Agent, seed: int) -> list[int]:
    """The lengths of new episodes in which the agent takes the action that it finds best."""

    @jit
    def best(states: Tensor) -> Tensor:
        with Tensor.no_grad():
            log_probs, _ = agent(states)
            return log_probs.argmax(1)

    carts = Carts(EVALUATED, seed)
    lengths = np.zeros(EVALUATED, dtype=int)
    while not lengths.all():  # each cart counts with its first episode
        carts.step(best(Tensor(carts.states)).numpy())
        lengths = np.where(carts.ended & (lengths == 0), carts.age, lengths)
    return lengths.tolist()


def draw(lengths: list[int], path: Path) -> None:
    """How long the pole stood, episode by episode."""
    import matplotlib as mpl  # here, since it takes longer to load than the agent to learn its first tricks

    mpl.use("Agg")  # pictures go to files: no window is needed
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    axes.plot(lengths, ".", markersize=2)
    axes.plot(np.convolve(lengths, np.ones(50) / 50, "valid"), linewidth=2)
    axes.set(xlabel="episode", ylabel="steps", title="How long the pole stood (line: mean of 50 episodes)")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"picture: {path}")


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Learn to balance a pole on a cart.")
    add = parser.add_argument
    add("--device", metavar="NAME", help="where to compute (default: the best that is installed)")
    add("--steps", metavar="N", type=int, default=200_000,
        help="steps to learn from, all carts together (200000)")
    add("--seed", metavar="N", type=int, default=0, help="weights, carts and what is tried (0)")
    add("--out", metavar="FOLDER", type=Path, default=Path("runs", "cartpole"),
        help="where the picture goes (runs/cartpole)")
    add("--record", metavar="FILE", type=Path, help="append what came out, as a line of JSON")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    if options.device:
        set_default_device(options.device)
    print(f"device {Device.DEFAULT}")
    Tensor.manual_seed(options.seed)
    agent, begin = Agent(), time.perf_counter()
    lengths = train(agent, options)
    seconds = time.perf_counter() - begin
    first, last = (float(np.mean(part)) for part in (lengths[:EVALUATED], lengths[-EVALUATED:]))
    print(f"{len(lengths)} episodes in {seconds:.1f} s; the first {EVALUATED}: {first:.1f} steps on average, "
          f"the last {EVALUATED}: {last:.1f}")
    final = evaluate(agent, seed=FRESH + options.seed)
    print(f"{EVALUATED} new episodes, without trying out: {np.mean(final):.1f} steps on average")

    options.out.mkdir(parents=True, exist_ok=True)
    draw(lengths, options.out / "cartpole.png")
    if options.record:
        with options.record.open("a") as file:
            file.write(json.dumps({
                "version": __version__, "device": str(Device.DEFAULT), "cores": os.cpu_count(),
                "seed": options.seed, "steps": options.steps, "seconds": round(seconds, 1),
                "episodes": len(lengths), "first": first, "last": last,
                "evaluated": float(np.mean(final)), "lengths": final,
            }) + "\n")


def main(arguments: list[str] | None = None) -> None:
    options = read_options(arguments)
    try:
        run(options)
    except (UserError, OSError) as error:
        sys.exit(f"cartpole.py: {error}")


if __name__ == "__main__":
    main()
