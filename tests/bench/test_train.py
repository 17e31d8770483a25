"""Teaching is timed on the events and tokens that it really takes."""

from train import Clock, bars_of, completion_batch


def test_completions_are_padded_and_only_they_have_labels() -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}, {"input_ids": [8, 9], "labels": [-100, 9]}]
    batch = completion_batch(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 7], [-100, 9, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_warm_up_is_not_counted() -> None:
    clock = Clock(2, seconds=[100.0, 1.0, 3.0], counts=[(1000, 1000), (4, 40), (8, 80)])
    assert clock.is_done
    assert clock.figures() == {
        "seconds": 4.0, "events": 12, "tokens": 120, "events_per_s": 3.0, "tokens_per_s": 30.0,
    }  # fmt: skip


def test_bars_compare_events_with_the_trainer_and_tokens_with_bare_passes() -> None:
    row = {
        "precision": "float32", "whereupon": {"events_per_s": 9.0, "tokens_per_s": 80.0},
        "bare": {"events_per_s": 0.0, "tokens_per_s": 100.0}, "trainer": {"events_per_s": 1.0, "tokens_per_s": 0.0},
    }  # fmt: skip
    events, tokens = bars_of(row)
    assert (events["value"], events["ok"]) == (9.0, True)
    assert (tokens["value"], tokens["ok"]) == (0.8, False)
