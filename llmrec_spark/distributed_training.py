"""A network learned by as many processes as its settings ask for: TorchDistributor starts them on Spark's workers."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pyspark.sql import SparkSession

from llmrec_spark.errors import ConfigError, ModelError
from llmrec_spark.network_config import TrainingSettings
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.runs import code_digest, say
from llmrec_spark.session import JOB_FAILED

if TYPE_CHECKING:
    from llmrec_spark.model.network_training import NetworkTask
    from llmrec_spark.model.training import Trained

HANDED_OVER = "processes-"  # begins the name of the folder of what several processes learn from
OURS = re.compile(r"llmrec_spark\.errors\.\w+: (.+)")  # what a process of ours said of its end
OF_TASK = "spark.task.resource.gpu.amount"
TOLD = 300  # characters of an error


@dataclass(frozen=True)
class NetworkLearner:
    """Learns networks in this process, or in `ranker.learning.processes` that TorchDistributor starts.

    With a master of local[...] these are processes of this machine, which meet in `scratch`; otherwise tasks of one
    barrier stage, a process each, which meet in `ranker.learning.folder`. On GPUs Spark must have been given them:
    spark.driver.resource.gpu.*, or spark.executor.resource.gpu.* and a whole spark.task.resource.gpu.amount.
    """

    spark: SparkSession
    scratch: Path
    resumes: bool = True  # from checkpoints, where the settings name a folder for them
    checkpoints: set[Path] = field(default_factory=set)  # of what was learned

    def check(self, ranker: RankerConfig) -> None:
        """Raises ConfigError where a network is asked for that several processes cannot learn here."""
        if "network" in ranker.rerank and ranker.learning.processes > 1:
            self._check_gpus(ranker.learning)
            self._meeting_place(ranker.learning)

    def __call__(self, task: NetworkTask) -> Trained:
        """The network of a task. Raises ModelError where a process fails, and as `check` does."""
        from llmrec_spark.model.network_training import learn_network

        settings = task.settings
        folder = str(Path(settings.folder).absolute()) if settings.folder is not None and self.resumes else None
        task = task._replace(settings=settings.model_copy(update={"folder": folder}), code=code_digest())
        checkpoints = task.checkpoints
        if checkpoints is not None:
            self.checkpoints.add(checkpoints)
            if checkpoints.exists():
                say(f"network: goes on from {checkpoints}")
        if settings.processes == 1:
            return learn_network(task)
        self._check_gpus(settings)
        return self._learn_together(task, self._meeting_place(settings) / f"{HANDED_OVER}{task.digest}")

    def _check_gpus(self, settings: TrainingSettings) -> None:
        context = self.spark.sparkContext
        check_gpus_of_tasks(settings, context.master or "", context.getConf().get(OF_TASK))

    def _meeting_place(self, settings: TrainingSettings) -> Path:
        return meeting_place(settings, self.spark.sparkContext.master or "", self.scratch)

    def _learn_together(self, task: NetworkTask, folder: Path) -> Trained:
        from pyspark.ml.torch.distributor import TorchDistributor

        from llmrec_spark.model.network_training import learn_beside_others, read_learned
        from llmrec_spark.model.whole_folder import whole_folder

        asked, gpus = task.settings.processes, task.settings.device == "cuda"
        here = is_local(self.spark.sparkContext.master or "")
        with whole_folder(folder) as new:
            task.save(new)
        try:
            distributor = TorchDistributor(asked, local_mode=here, use_gpu=gpus)
            if distributor.num_processes != asked:
                raise ConfigError(
                    f"ranker.learning.processes: is {asked} with device cuda, and the driver has "
                    f"{distributor.num_processes} GPUs; expected one for each process."
                )
            distributor.run(learn_beside_others, str(folder))
            return read_learned(folder)
        except (RuntimeError, OSError, ValueError, *JOB_FAILED) as error:
            raise ModelError(
                f"network: the {asked} processes that learn it have not ended well ({_why(error)}). What they said "
                "stands above. Check ranker.learning, or set its processes to 1."
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


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


def check_gpus_of_tasks(settings: TrainingSettings, master: str, amount: str | None) -> None:
    """Raises ConfigError where tasks that are to learn on GPUs have none, or share one as tasks that score may.

    amount  spark.task.resource.gpu.amount, None where it is not set
    """
    is_whole = amount is not None and amount.isdecimal() and int(amount) > 0
    if settings.device == "cuda" and not is_local(master) and not is_whole:
        raise ConfigError(
            f"{OF_TASK}: is {amount or 'not set'}, expected a whole number: ranker.learning.processes is "
            f"{settings.processes} with device cuda, and each has a GPU of its own. Give this job --conf {OF_TASK}=1."
        )


def is_local(master: str) -> bool:
    """Whether Spark has no workers but the job itself."""
    return master == "local" or master.startswith("local[")


def _why(error: Exception) -> str:
    """What a process said of its end, or else the last words of the error."""
    said = str(error)
    ours = OURS.search(said)
    return ours[1][:TOLD] if ours else " ".join(said.split())[-TOLD:]
