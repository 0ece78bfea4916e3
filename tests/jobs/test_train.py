"""What train_model and score_daily say where a model cannot be trained, or is not; on the golden tables."""

from tests.jobs.conftest import DAY, job


def test_a_log_of_a_few_lists_teaches_nothing_and_that_is_said(conf, model_folder, tmp_path):
    by_value = ("--set", "ranking.order_by=expected_value")  # which is what one may want to train for
    code, said = job("train_model", "--config", conf, *DAY, "--model", model_folder, *by_value)
    assert code == 65, said
    assert "expected 30 lists or more" in said
    assert "training.train_days" in said
    assert not (tmp_path / "mlruns").exists()


def test_a_model_without_a_ranker_cannot_order_by_expected_value(conf, model_folder, tmp_path):
    by_value = ("--set", "ranking.order_by=expected_value")
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder, *by_value)
    assert code == 78, said
    assert "is not trained" in said
    assert "jobs/train_model.py" in said
    assert not (tmp_path / "own").exists()


def test_columns_that_the_ads_lack_are_named_before_any_work(conf, model_folder, tmp_path):
    unknown = ("--set", "ranker.columns=[colour]")
    code, said = job("train_model", "--config", conf, *DAY, "--model", model_folder, *unknown)
    assert code == 65, said
    assert "lacks the columns ['colour']" in said
    assert not (tmp_path / "own" / "training_examples").exists()
