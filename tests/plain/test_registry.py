import json
from contextlib import contextmanager
from types import SimpleNamespace

import pandas as pd
import pytest

from llmrec_spark import registry
from llmrec_spark.config import Config


@pytest.fixture
def logged(monkeypatch):
    """What a store would be given: name -> content."""
    given = {}
    store = SimpleNamespace(
        set_tags=lambda tags: given.update(tags=tags),
        log_dict=lambda values, name: given.update({name: values}),
        log_metrics=lambda numbers: given.update(numbers=numbers),
    )

    @contextmanager
    def tracked(*_):
        yield store, SimpleNamespace(info=SimpleNamespace(run_id="r"))

    monkeypatch.setattr(registry, "_tracked", tracked)
    return given


def test_no_secret_of_the_configuration_is_in_the_record_of_a_run(logged):
    places = {"events": {"path": "s3a://key:hunter2@in/events"}, "ads": {"path": "in/ads"}}
    hooks = [{"webhook": "https://chat/hunter2"}, {"command": ["curl", "-u", "robot:hunter2", "chat"]}]
    config = Config.model_validate(
        {
            "inputs": places,
            "tables": {"root": "out"},
            "mlflow": {"tracking_uri": "http://robot:hunter2@mlflow:5000?key=hunter2"},
            "notify": {"hooks": hooks, "openlineage_url": "http://hunter2@marquez:5000"},
        }
    )
    registry.log_scoring_run(config, {"run_date": "2026-03-01"}, {}, pd.DataFrame())
    assert logged["config.json"]["mlflow"]["tracking_uri"] == "http://mlflow:5000"
    assert "hunter2" not in json.dumps(logged)
