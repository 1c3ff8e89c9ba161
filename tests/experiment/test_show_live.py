"""The panel of a running training: what it draws, how often, and in place."""

from __future__ import annotations

from types import SimpleNamespace

from kaggle_kit.experiment import show
from kaggle_kit.experiment.show.live_panel import LivePanel
from kaggle_kit.experiment.training_session import Phase

STEP = SimpleNamespace(tokens={"ner": 10, "qa": 30})
CONTROL = SimpleNamespace(should_training_stop=False)


class Screen:
    """A notebook's output area: the first drawing, and each that took its place."""

    def __init__(self, redraws: bool = True) -> None:
        self.views: list[str] = []
        self.redraws = redraws

    def show(self, view, display_id):
        assert display_id
        self.update(view)
        return self if self.redraws else None

    def update(self, view) -> None:
        self.views.append(view.text)


def trained(screen: Screen, steps: int, seconds_a_step: float = 1.0) -> LivePanel:
    now = [0.0]
    panel = LivePanel(seconds=5.0, show=screen.show, clock=lambda: now[0])
    total = {"ner": 0, "qa": 100}  # of an earlier phase
    dataset = SimpleNamespace(plan=SimpleNamespace(tasks=("ner", "qa"), steps=[STEP] * steps))
    trainer = SimpleNamespace(train_dataset=dataset, tokens=SimpleNamespace(total=total), record={})
    panel.bind(trainer)
    state = SimpleNamespace(global_step=0, max_steps=steps)
    panel.on_train_begin(None, state, CONTROL)
    for number in range(1, steps + 1):
        state.global_step, now[0] = number, number * seconds_a_step
        for task, tokens in STEP.tokens.items():
            total[task] += tokens
        trainer.record = {"losses": {"ner": 1.0 / number}, "tokens_per_second": 40.0, "eta_seconds": 61.0}
        panel.on_step_end(None, state, CONTROL)
    return panel


def test_the_panel_is_drawn_at_the_first_and_last_step_and_every_few_seconds_between():
    screen = Screen()
    trained(screen, steps=12)
    assert [view.partition(" of")[0] for view in screen.views] == ["step 1", "step 6", "step 11", "step 12"]


def test_tokens_of_earlier_phases_count_as_seen_and_as_planned():
    screen = Screen()
    trained(screen, steps=2)
    assert "ner: 10 tokens, 50%, loss 1.0000" in screen.views[0] and "qa: 130 tokens, 81%" in screen.views[0]
    assert "ner: 20 tokens, 100%, loss 0.7500" in screen.views[1]
    assert screen.views[0].startswith("step 1 of 2, 40 real tokens/s, 0:02 h left")


def test_where_nothing_can_be_redrawn_the_panel_is_drawn_once():
    screen = Screen(redraws=False)
    trained(screen, steps=12)
    assert len(screen.views) == 1


def test_a_dev_score_and_a_loss_that_is_no_number_leave_the_panel_whole():
    screen = Screen()
    panel = trained(screen, steps=1)
    panel.trainer.record = {
        "losses": {"ner": float("nan")},
        "quick_evaluation": {"ner.f1": 0.5, "selection": 0.6, "stopped": False},
    }
    panel.on_step_end(None, SimpleNamespace(global_step=1, max_steps=1), CONTROL)
    assert "loss 1.0000, dev 0.5000" in screen.views[-1]


def test_every_phase_of_an_experiment_is_watched_beside_what_watches_it_already():
    other = LivePanel()
    exp = SimpleNamespace(phases=[Phase(None, watches=(other,)), Phase(None, name="own")])
    show.live(exp)
    first, second = exp.phases
    assert first.watches[0] is other and first.watches[1] is second.watches[0]
