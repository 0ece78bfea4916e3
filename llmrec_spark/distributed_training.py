"""A network learned by as many processes as its settings ask for: TorchDistributor starts them on Spark's workers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import SparkSession

from llmrec_spark.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from llmrec_spark.model.network_training import LearnNetwork, NetworkTask
    from llmrec_spark.model.training import Trained
    from llmrec_spark.network_config import TrainingSettings

HANDED_OVER = "processes-"  # begins the name of the folder of what several processes learn from


def network_learner(spark: SparkSession, scratch: Path) -> LearnNetwork:
    """How a network is learned: in this process, or by `ranker.learning.processes` of Spark's.

    With a master of local[...] these are processes of this machine, which meet in `scratch`; otherwise tasks of one
    barrier stage, a process each, which meet in `ranker.learning.folder`. On GPUs Spark must have been given them
    (spark.driver.resource.gpu.*, or spark.executor.resource.gpu.* and spark.task.resource.gpu.amount). Raises
    ConfigError without that folder, ModelError where a process fails.
    """

    def learn(task: NetworkTask) -> Trained:
        from llmrec_spark.model.network_training import learn_network

        if task.settings.processes == 1:
            return learn_network(task)
        return _learn_together(spark, task, scratch)

    return learn


def meeting_place(settings: TrainingSettings, master: str, scratch: Path) -> Path:
    """The folder that all processes reach: `scratch` with a master of local[...], or else that of the settings.

    Raises ConfigError where the settings name none.
    """
    if is_local(master):
        return scratch.absolute()
    if settings.folder is None:
        raise ConfigError(
            f"ranker.learning.folder: is null, expected a folder that all {settings.processes} processes reach: "
            f"ranker.learning.processes is {settings.processes}, and they run on the workers of {master}. Name one on "
            "shared storage, or set processes to 1."
        )
    return Path(settings.folder).absolute()


def is_local(master: str) -> bool:
    """Whether Spark has no workers but the job itself."""
    return master == "local" or master.startswith("local[")


def _learn_together(spark: SparkSession, task: NetworkTask, scratch: Path) -> Trained:
    from pyspark.ml.torch.distributor import TorchDistributor

    from llmrec_spark.model.network_training import learn_beside_others, read_learned
    from llmrec_spark.model.whole_folder import whole_folder

    settings, master = task.settings, spark.sparkContext.master or ""
    folder = meeting_place(settings, master, scratch) / f"{HANDED_OVER}{task.digest}"
    with whole_folder(folder) as new:
        task.save(new)
    distributor = TorchDistributor(settings.processes, local_mode=is_local(master), use_gpu=settings.device == "cuda")
    try:
        distributor.run(learn_beside_others, str(folder))
        return read_learned(folder)
    except (RuntimeError, OSError) as error:
        raise ModelError(
            f"network: of {settings.processes} processes that learn it one failed; what it said stands above "
            f"({' '.join(str(error).split())[:200]}). Check ranker.learning, or set ranker.learning.processes to 1."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
