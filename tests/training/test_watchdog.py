"""A bad step never reaches the weights, a run that has left its way is taken back, and noise changes nothing."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from realtime.errors import TrainingError
from tests.tiny_run import TINY
from training.augment import Pair, straight_crops
from training.batches import FaceStack, stack_faces
from training.checkpoint import LATEST, Progress, load_latest, pack_latest, write_file
from training.config import TrainConfig
from training.faceset import Faceset
from training.model import SIDES, Side
from training.models import build_model
from training.objective import Objective
from training.optimizers import average, make_optimizer
from training.watchdog import FEWEST, MOST_ROLLBACKS, RATE_CUT, RECOVERY, WARMUP, Verdict, Watchdog

PATIENCE, KEEP_EVERY = 4, 8
"""Smaller than a real run's, so that tests need tens of steps."""
RATE = 2e-3
QUIET_RUNS, QUIET_STEPS = 6, 2500


class Training:
    """A real run in the small: the model, the losses and the optimizer of TINY, and a watchdog. No files."""

    def __init__(self, people: dict[str, Path], rate: float = RATE, config: TrainConfig = TINY) -> None:
        torch.manual_seed(0)
        self.config, self.rate = config, rate
        self.model, self.ema = build_model(config.model), build_model(config.model).requires_grad_(False)
        self.ema.load_state_dict(self.model.state_dict())
        self.optimizer = make_optimizer(config, self.model.parameters())
        self.objective = Objective(self.model, config, bf16=False)
        self.stacks: dict[Side, FaceStack] = {}
        for side in SIDES:
            faceset = Faceset.open(people[side])
            self.stacks[side] = stack_faces(faceset, range(len(faceset)), config.geometry)
        self.generator = torch.Generator().manual_seed(0)
        self.watchdog = Watchdog(self.model, self.ema, self.optimizer, patience=PATIENCE, keep_every=KEEP_EVERY)
        self.watchdog.begin()
        self.progress = Progress()
        self.losses: list[float] = []
        self.verdicts: list[Verdict] = []

    def run(self, steps: int, disturb: Callable[[int, Pair], Pair] | None = None) -> None:
        for _ in range(steps):
            number = self.progress.iteration
            pairs: dict[Side, Pair] = {}
            for side, stack in self.stacks.items():
                faces = stack.pixels[torch.randint(0, len(stack), (4,), generator=self.generator)]
                pair = straight_crops(faces, self.config.model.resolution, stack.margin)
                pairs[side] = pair if disturb is None else disturb(number, pair)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate * self.watchdog.rate
            loss = self.objective(pairs).total
            torch.autograd.backward(loss)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.verdicts.append(self.watchdog.judge(loss, norm, number))
            self.progress.iteration += 1
            if self.verdicts[-1] is Verdict.STEP:
                self.optimizer.step()
                average(self.optimizer, list(self.ema.parameters()), list(self.model.parameters()), 0.9)
                self.watchdog.keep(self.progress.iteration)
            self.optimizer.zero_grad(set_to_none=True)
            self.losses.append(self.watchdog.loss)

    def everything(self) -> list[Tensor]:
        moments = [state[key] for state in self.optimizer.state.values() for key in sorted(state)]
        parts = [*self.model.state_dict().values(), *self.ema.state_dict().values(), *moments]
        return [value.clone() for value in [*parts, *self.watchdog.tensors().values()]]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def poisoned(value: float, *steps: int) -> Callable[[int, Pair], Pair]:
    """Pictures of `value` in the batches of these steps."""

    def disturb(number: int, pair: Pair) -> Pair:
        if number not in steps:
            return pair
        return pair._replace(inputs=torch.full_like(pair.inputs, value), targets=torch.full_like(pair.targets, value))

    return disturb


def mean(values: list[float]) -> float:
    return float(np.mean(values))


# ---------------------------------------------------------------- a real run


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6, 1e30])
def test_a_poisoned_batch_leaves_no_trace(
    people: dict[str, Path], caplog: pytest.LogCaptureFixture, value: float
) -> None:
    training = Training(people)
    training.run(15)
    before = [value.clone() for value in training.model.state_dict().values()]
    with caplog.at_level(logging.WARNING):
        training.run(1, poisoned(value, 15))
    assert training.verdicts[-1] is Verdict.SKIP
    assert same(before, list(training.model.state_dict().values()))  # the statistics of the codes, too
    assert len(caplog.records) == 1
    assert "step 15" in caplog.messages[0]
    assert "skipped" in caplog.messages[0]
    training.run(10)
    assert training.verdicts[-10:] == [Verdict.STEP] * 10
    assert training.watchdog.rollbacks == 0


def test_poison_that_goes_on_takes_the_run_back_and_it_recovers(
    people: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(people)
    with caplog.at_level(logging.WARNING):
        training.run(32 + 60, poisoned(math.nan, *range(32, 32 + PATIENCE)))
    assert training.watchdog.rollbacks == 1
    assert training.verdicts[32 + PATIENCE - 1] is Verdict.ROLLED_BACK
    assert len(caplog.records) == 2  # the first skip, and the rollback
    assert "averaged weights of step 32 at 0.5 of the rate" in caplog.messages[1]
    assert mean(training.losses[-10:]) < mean(training.losses[22:32])


def test_a_rate_that_is_too_high_is_lowered_until_the_run_learns(people: dict[str, Path]) -> None:
    """Ten steps at a rate a thousand times too high ruin the weights; without a way back they stay ruined."""
    ruined, training = Training(people), Training(people)
    for each in (ruined, training):
        each.run(40)
        each.rate = 1000 * RATE
        if each is ruined:
            each.watchdog = Watchdog(each.model, each.ema, each.optimizer, patience=10**6)
            each.watchdog.begin()
        each.run(10)
        each.rate = RATE
        each.run(80)
    assert training.watchdog.rollbacks >= 1
    assert mean(training.losses[-10:]) < mean(training.losses[30:40])
    assert mean(training.losses[-10:]) < mean(ruined.losses[-10:]) / 1.5


def test_a_run_that_cannot_be_saved_ends_in_one_sentence(people: dict[str, Path]) -> None:
    training = Training(people)
    training.run(12)
    with pytest.raises(TrainingError, match="resume with --precision fp32, or start again with a lower learning_rate"):
        training.run(1000, poisoned(math.nan, *range(12, 2000)))
    assert training.watchdog.rollbacks == MOST_ROLLBACKS
    assert training.progress.iteration == 12 + PATIENCE * (MOST_ROLLBACKS + 1) - 1
    assert all(bool(torch.isfinite(value).all()) for value in training.model.state_dict().values())


@pytest.mark.parametrize("optimizer", ["adamw", "adabelief", "schedule-free"])
def test_every_optimizer_goes_on_after_a_rollback(people: dict[str, Path], optimizer: str) -> None:
    config = TrainConfig.from_dict({**TINY.to_dict(), "optimizer": optimizer})
    training = Training(people, config=config)
    training.run(60, poisoned(math.nan, *range(20, 20 + PATIENCE)))
    assert training.watchdog.rollbacks == 1
    assert mean(training.losses[-5:]) < mean(training.losses[15:20])


@pytest.mark.parametrize("cut", [5, 17, 19, 20, 24])
def test_a_run_resumed_at_any_moment_decides_and_ends_alike(people: dict[str, Path], tmp_path: Path, cut: int) -> None:
    steps, poison = 28, poisoned(math.nan, 4, *range(16, 16 + PATIENCE))
    straight, first, second = (Training(people) for _ in range(3))
    straight.run(steps, poison)
    first.run(cut, poison)
    parts = (first.model, first.ema, first.optimizer, first.generator)
    write_file(tmp_path / LATEST, pack_latest(*parts, first.progress, watchdog=first.watchdog))
    others = (second.model, second.ema, second.optimizer, second.generator)
    second.progress = load_latest(tmp_path, *others, watchdog=second.watchdog)
    second.watchdog.begin()
    second.run(steps - cut, poison)
    assert second.verdicts == straight.verdicts[cut:]
    assert same(second.everything(), straight.everything())
    assert second.watchdog.rate == straight.watchdog.rate


def test_a_run_that_had_no_watchdog_takes_the_weights_it_has_for_good(people: dict[str, Path], tmp_path: Path) -> None:
    old, new = Training(people), Training(people)
    old.run(10)
    packed = pack_latest(old.model, old.ema, old.optimizer, old.generator, old.progress)
    write_file(tmp_path / LATEST, packed)
    new.watchdog = Watchdog(new.model, new.ema, new.optimizer, patience=PATIENCE)
    load_latest(tmp_path, new.model, new.ema, new.optimizer, new.generator, watchdog=new.watchdog)
    new.watchdog.begin()
    new.run(PATIENCE, poisoned(math.nan, *range(PATIENCE)))
    assert new.verdicts[-1] is Verdict.ROLLED_BACK
    assert all(torch.equal(a, b) for a, b in zip(new.model.parameters(), old.ema.parameters(), strict=True))


# ---------------------------------------------------------------- its judgement alone


def judged(losses: list[float], patience: int = 20) -> tuple[list[Verdict], Watchdog]:
    """What becomes of steps with these losses; the weights are one number that every step changes."""
    model = nn.Linear(1, 1)
    ema = copy.deepcopy(model)
    watchdog = Watchdog(model, ema, torch.optim.SGD(model.parameters(), 0.0), patience=patience)
    watchdog.begin()
    verdicts = []
    for number, loss in enumerate(losses):
        verdicts.append(watchdog.judge(torch.tensor(loss), torch.tensor(1.0), number))
        if verdicts[-1] is Verdict.STEP:
            watchdog.keep(number + 1)
    return verdicts, watchdog


def quiet(seed: int) -> list[float]:
    """Losses of a run that is well: falling, noisy, with hard batches, a ramp of occluders and a discriminator."""
    rng = np.random.default_rng(seed)
    steps = np.arange(QUIET_STEPS)
    level = 1.0 + 4.0 * np.exp(-steps / 200) + 0.5 * np.clip(steps / 600, 0, 1)
    hard = np.where(rng.random(QUIET_STEPS) < 0.02, rng.uniform(1.5, 4, QUIET_STEPS), 1)
    finish = 0.1 * np.clip((steps - 2000) / 300, 0, 1) * rng.normal(1, 0.5, QUIET_STEPS)
    losses: list[float] = (level * np.exp(0.25 * rng.normal(size=QUIET_STEPS)) * hard + finish).tolist()
    return losses


def test_noise_hard_batches_ramps_and_a_discriminator_never_disturb_a_run() -> None:
    for seed in range(QUIET_RUNS):
        verdicts, watchdog = judged(quiet(seed))
        assert set(verdicts) == {Verdict.STEP}
        assert watchdog.rollbacks == 0


def test_a_loss_that_stays_high_takes_back_and_one_that_comes_back_does_not() -> None:
    normal = quiet(0)[:600]
    high = [4 * normal[-1]] * 19
    assert Verdict.ROLLED_BACK not in judged([*normal, *high, *normal])[0]
    verdicts, watchdog = judged([*normal, *high, high[0], *normal[-100:]])
    assert verdicts.index(Verdict.ROLLED_BACK) == 600 + 19
    assert watchdog.rollbacks == 1


def test_the_first_losses_are_not_held_against_what_nobody_knows_yet() -> None:
    verdicts, _ = judged([5.0, 80.0, 3.0, 700.0, *[5.0] * FEWEST])
    assert set(verdicts) == {Verdict.STEP}


def test_a_loss_below_nothing_is_judged_as_well() -> None:
    normal = [-1.0 + 0.1 * math.sin(number) for number in range(100)]
    assert set(judged(normal)[0]) == {Verdict.STEP}
    assert judged([*normal, 50.0])[0][-1] is Verdict.SKIP


def test_a_jump_that_was_announced_is_no_break() -> None:
    losses = [1.0 + 0.01 * math.sin(number) for number in range(100)]
    verdicts, watchdog = judged(losses)
    watchdog.forget_level()
    for number in range(100, 200):
        assert watchdog.judge(torch.tensor(30 * losses[0]), torch.tensor(1.0), number) is Verdict.STEP
        watchdog.keep(number + 1)
    assert set(verdicts) == {Verdict.STEP}


def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is_fine() -> None:
    _, watchdog = judged([1.0] * 50)
    for norm in (math.nan, math.inf):
        assert watchdog.judge(torch.tensor(1.0), torch.tensor(norm), 50) is Verdict.SKIP
    assert watchdog.judge(torch.tensor(1.0), torch.tensor(5.0), 50) is Verdict.STEP


def test_the_rate_is_halved_warmed_up_and_recovers_slowly() -> None:
    _, watchdog = judged([*[1.0] * 50, *[math.nan] * 20])
    assert watchdog.rate == pytest.approx(RATE_CUT / WARMUP)
    rates = []
    for number in range(RECOVERY + WARMUP):
        watchdog.judge(torch.tensor(1.0), torch.tensor(1.0), number)
        watchdog.keep(number)
        rates.append(watchdog.rate)
    assert rates == sorted(rates)
    assert rates[WARMUP] == pytest.approx(RATE_CUT, rel=0.05)
    assert rates[RECOVERY // 2] == pytest.approx(RATE_CUT * math.sqrt(2), rel=0.05)
    assert rates[-1] == 1


def test_rollbacks_with_progress_between_them_go_on_for_ever() -> None:
    trouble = [*[1.0] * 150, *[math.nan] * 20]
    _, watchdog = judged(trouble * (MOST_ROLLBACKS + 3))
    assert watchdog.rollbacks == MOST_ROLLBACKS + 3


def test_weights_of_another_shape_do_not_slip_in() -> None:
    _, watchdog = judged([1.0] * 5)
    stored = watchdog.tensors()
    with pytest.raises(KeyError):
        watchdog.load({**stored, "good/weight": torch.zeros(2, 2)})
    with pytest.raises(KeyError):
        watchdog.load({name: value for name, value in stored.items() if name != "good/bias"})
