"""The code MLflow stores beside a registered model: the match of single pairs, by the direct formula.

model = mlflow.pyfunc.load_model("models:/llmrec_ad_matcher@champion")
model.predict(pd.DataFrame({"behaviours": [[{"title": "Trail running shoes"}]], "ad": [{"title": "跑鞋"}]}))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd


class AdMatcher(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
    """predict: rows of `behaviours` (a list of ads) and `ad` -> match of each row; an ad is a dict of text fields."""

    def load_context(self, context: Any) -> None:
        """Opens the model folder and its encoder."""
        from llmrec_spark.model.ad_encoder import load_ad_encoder
        from llmrec_spark.model.checkpoint import open_model
        from llmrec_spark.stored_models import from_store

        folder = from_store(Path(context.artifacts["model"]), _stored)
        self.model = open_model(folder)
        self.encoder = load_ad_encoder(str(folder / "encoder"), self.model.config.encoder, "cpu")

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """match of each row, NaN where no behaviour or the ad has no text. All behaviours weigh alike a priori."""
        from llmrec_spark.model.single_pairs import match_rows

        rows = zip(model_input["behaviours"], model_input["ad"], strict=True)
        return pd.DataFrame({"match": match_rows(self.model, self.encoder, list(rows))})


def _stored(uri: str) -> Path:
    from llmrec_spark.stored_models import inside

    return inside(Path(mlflow.artifacts.download_artifacts(uri)))


mlflow.models.set_model(AdMatcher())
