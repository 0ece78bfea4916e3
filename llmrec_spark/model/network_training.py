"""Lists -> the network of a reranker, trained on top of effects and tastes."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from llmrec_spark.model.example_scores import additions
from llmrec_spark.model.losses import list_loss
from llmrec_spark.model.network_batches import AdTable, Batch
from llmrec_spark.model.network_lists import ShuffledLists
from llmrec_spark.model.ranking_network import NetworkShape, RankingNetwork, new_network
from llmrec_spark.model.training import Trained, train
from llmrec_spark.network_config import NetworkConfig, TrainingSettings

LISTS_OF_A_STEP = 64


def learn_network(
    batch: Batch,
    table: AdTable,
    config: NetworkConfig,
    settings: TrainingSettings,
    *,
    learns: Tensor,
    judges: Tensor,
    folder: Path | None = None,
) -> Trained:
    """A network from the lists `learns`, stopped where those of `judges` (numbers of lists; may be none) say so."""
    shape = NetworkShape(
        config=config, text_width=table.vectors.shape[1], fields=table.fields.shape[1], numbers=table.numbers.shape[1]
    )
    network = new_network(shape, seed=settings.seed)
    source, held = ShuffledLists(batch.rows(learns), size=LISTS_OF_A_STEP, seed=settings.seed), batch.rows(judges)

    def validate(one: RankingNetwork) -> float:
        return -float(list_loss(held.offsets + additions(one, held, table), held.clicked, held.present))

    return train(
        network,
        source,
        table,
        settings,
        steps_per_epoch=source.steps,
        list_loss=list_loss,
        validate=validate if len(judges) else None,
        folder=folder,
    )
