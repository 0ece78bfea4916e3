"""What a YAML file in conf/ may say: one frozen model per stage, every key with its unit."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from llmrec_spark.adapter_config import AdapterConfig
from llmrec_spark.config_section import Section
from llmrec_spark.evaluation_config import DriftConfig, EvaluationConfig
from llmrec_spark.promotion_config import PromotionConfig
from llmrec_spark.ranker_config import KEPT_AT, RankerConfig
from llmrec_spark.search_config import SearchConfig
from llmrec_spark.training_config import TrainingConfig

TextField = Literal["title", "description", "tags", "category", "people"]
TEXT_FIELDS: tuple[str, ...] = get_args(TextField)
UNDECISIVE = (  # sections that change no row of a day; what `encoding` registered is part of the model
    *("tables", "mlflow", "encoding", "audit", "evaluation", "drift", "promotion", "notify"),
    *("training", "ranker", "search", "adapter"),
)
BOUNDS = {"events": {"max_age_hours", "max_refused_share"}, "text": {"max_unknown_share"}}  # nor these keys


class InputConfig(Section):
    """One Delta table of the company: a folder or URI, or a name in the catalog, and its columns."""

    path: str | None = None
    name: str | None = None
    columns: dict[str, str] = Field({})  # our column: their column; what is not mapped has our name already

    @model_validator(mode="after")
    def one_place(self) -> InputConfig:
        if (self.path is None) == (self.name is None):
            raise ValueError("give either path (a folder or URI) or name (catalog.schema.table)")
        return self


class InputsConfig(Section):
    """`inputs:` the company's tables."""

    events: InputConfig
    ads: InputConfig
    users: InputConfig | None = None
    candidates: InputConfig | None = None


class TablesConfig(Section):
    """`tables:` where our own tables live, and for how long."""

    root: str | None = None  # a folder or object-store URI
    catalog: str | None = None  # or a schema of a metastore: main.ads
    keep_days: int = Field(
        28, ge=1
    )  # published days whose run tables are kept, and days of examples before a training's

    @model_validator(mode="after")
    def one_place(self) -> TablesConfig:
        if (self.root is None) == (self.catalog is None):
            raise ValueError("give either root (a folder or URI) or catalog (main.ads)")
        return self


class MlflowConfig(Section):
    """`mlflow:` the tracking store and the model that scores."""

    tracking_uri: str
    artifact_root: str | None = None  # used when the experiment is created; None leaves it to the server
    experiment: str = "llmrec_spark"
    model: str = "models:/llmrec_ad_matcher@champion"  # a registry URI or a model folder


class EventsConfig(Section):
    """`events:` the user's own words for what people do, and how good a log must be."""

    weights: dict[str, float] = Field(
        {
            "impression": 0.0,
            "view": 0.3,
            "click": 1.0,
            "cart": 2.0,
            "purchase": 3.0,
            "search": 1.0,
            "hide": -1.0,
            "report": -1.0,
        }
    )  # every known type; 0 is no behaviour, negative is never shown again
    impressions: tuple[str, ...] = ("impression",)
    clicks: tuple[str, ...] = ("click",)
    conversions: tuple[str, ...] = ("purchase",)
    searches: tuple[str, ...] = ("search",)
    max_age_hours: float = Field(48.0, gt=0)  # the newest event before D may be this old
    max_refused_share: float = Field(0.05, ge=0, le=1)  # of the rows read
    quarantine_per_reason: int = Field(10_000, ge=1)  # rows kept per reason and run; counts are exact

    @property
    def acts(self) -> list[str]:
        """The types of a behaviour."""
        return [kind for kind, weight in self.weights.items() if weight > 0]

    @property
    def negatives(self) -> list[str]:
        """The types that say that an ad is not wanted."""
        return [kind for kind, weight in self.weights.items() if weight < 0]

    @property
    def answers(self) -> list[str]:
        """The types that answer an impression; in a log without impressions, every behaviour."""
        return list(self.clicks) if self.impressions else self.acts

    @model_validator(mode="after")
    def types_are_known(self) -> EventsConfig:
        for key in ("impressions", "clicks", "conversions", "searches"):
            unknown = sorted(set(getattr(self, key)) - set(self.weights))
            if unknown:
                raise ValueError(f"{key} names {unknown}, which weights does not; known: {sorted(self.weights)}")
        return self


class SequencesConfig(Section):
    """`sequences:` how much of a history is kept."""

    max_behaviours: int = Field(50, ge=1)  # T, the last behaviours of a user
    max_skips: int = Field(50, ge=0)  # the last impressions without a click
    max_queries: int = Field(10_000, ge=0)  # distinct queries of all histories, most recent first


class TextConfig(Section):
    """`text:` what an encoder reads of an ad."""

    fields: tuple[TextField, ...] = ("title", "description", "tags", "category")
    separators: dict[TextField, Annotated[str, Field(min_length=1)]] = Field({})  # tags: "|" where text holds a list
    max_characters: int = Field(2_000, ge=1)  # of a field; the rest is cut and counted
    max_unknown_share: float = Field(0.3, ge=0, le=1)  # warn when more of the tokens are unknown to the encoder


class EncoderConfig(Section):
    """How a Hugging Face encoder folder is read; part of its digest."""

    pooling: Literal["mean", "cls", "last"] = "mean"  # last: of a GPT-like encoder, which reads from left to right
    prefix: str = ""
    max_tokens: int = Field(256, ge=4)
    dtype: Literal["float32", "bfloat16"] = "float32"
    centred: bool = False  # subtract each field's mean vector over the ads known at registration


class EncodingConfig(Section):
    """`encoding:` the encoder that `jobs/register_model.py` registers, and how texts are fed to it."""

    encoder: str = "multilingual"  # embedded: minilm or multilingual; otherwise a folder or a hub id
    settings: EncoderConfig = EncoderConfig()  # of a folder or hub id; the embedded ones bring their own
    token_budget: int = Field(1_024, ge=64)  # padded tokens of a batch; a GPU wants 16 times as many


class StatisticsConfig(Section):
    """`statistics:` the rate of an ad, (clicks + prior m) / (shown + prior)."""

    window_days: int | None = Field(28, ge=1)  # before D; null: all events before D
    prior_shown: float = Field(10.0, gt=0)  # impressions' worth of belief in the overall mean m


class MatchConfig(Section):
    """`match:` how users and ads are compared."""

    form: Literal["attention", "uniform"] = "attention"  # uniform: lambda 0, tau 1, equal b, ordered by match
    keyword_share: float = Field(0.4, ge=0, le=1)  # lambda; 0 compares by encoder alone
    field_temperature: float = Field(1.0, gt=0)  # tau; small looks at the closest field only
    behaviour_temperature: float = Field(0.2, ge=0.03)  # tau_u; below .03 float32 underflows
    half_life_days: float | None = Field(30.0, gt=0)  # of a behaviour's weight; null: age does not matter
    beta: float = Field(0.35, ge=0)  # log-odds per standard deviation of lift
    background_users: int = Field(10_000, ge=1)  # sample that background and sigma are taken over
    keep_per_user: int = Field(200, ge=1)  # M: best ads by score that leave the match for ranking
    block_ads: int = Field(1_024, ge=1)  # live ads whose part of the pair table is in memory at once


class ExclusionsConfig(Section):
    """`exclusions:` what is not shown. What a user hid is never shown, whatever stands here."""

    converted_days: int | None = Field(30, ge=1)  # not what the user converted on in these days
    resting_impressions: int | None = Field(20, ge=1)  # shown so often without a click ...
    resting_days: int = Field(7, ge=1)  # ... an ad is left out for these days


class ValueConfig(Section):
    """`value:` what an impression is worth, once a trained model gives probabilities."""

    pricing: Literal["per_click", "per_conversion"] = "per_click"  # p_click x bid, or x p_conversion x mean value
    currency: str = Field("USD", min_length=1)  # of the bids and of the values of conversions


class RankingConfig(Section):
    """`ranking:` the final list."""

    order_by: Literal["log_odds", "expected_value"] = "log_odds"  # expected_value asks for a trained model
    max_per_user: int = Field(10, ge=1)  # K
    max_per_advertiser: int | None = Field(3, ge=1)
    max_per_category: int | None = Field(4, ge=1)
    drop_near_duplicates: bool = True  # same title and same known advertiser


class AuditConfig(Section):
    """`audit:` what must hold before a day is published."""

    min_users: int = Field(1, ge=0)  # lists
    max_cold_share: float = Field(1.0, ge=0, le=1)  # of the lists that are cold_start
    max_short_share: float = Field(1.0, ge=0, le=1)  # of the lists that are shorter than K


class HookConfig(Section):
    """One of `notify.hooks`: a command that reads a message as JSON, or a URL that it is POSTed to."""

    command: tuple[str, ...] | None = None  # the program and its arguments; no shell reads them
    webhook: str | None = Field(None, pattern=r"^https?://\S+$", repr=False)  # may hold a secret, in its path too
    timeout_seconds: float = Field(10.0, gt=0, le=600)

    @model_validator(mode="after")
    def one_way(self) -> HookConfig:
        if (self.command is None) == (self.webhook is None):
            raise ValueError("give either command (a list: the program and its arguments) or webhook (an http URL)")
        if self.command is not None and not (self.command and self.command[0]):
            raise ValueError("command is empty, expected the program and its arguments")
        return self


class NotifyConfig(Section):
    """`notify:` who is told how a run ended. None of it can fail a job."""

    hooks: tuple[HookConfig, ...] = ()  # called with a day's alerts, where there are any
    openlineage_url: str | None = Field(None, pattern=r"^https?://\S+$", repr=False)  # http://marquez:5000
    openlineage_namespace: str = Field("llmrec_spark", min_length=1)  # of our jobs, and of tables that have no URI
    prometheus_file: str | None = None  # *.prom in the folder of the textfile collector; {job} becomes the job's name


class Config(Section):
    """A whole file of conf/."""

    inputs: InputsConfig
    tables: TablesConfig
    mlflow: MlflowConfig
    events: EventsConfig = EventsConfig()
    sequences: SequencesConfig = SequencesConfig()
    text: TextConfig = TextConfig()
    encoding: EncodingConfig = EncodingConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    match: MatchConfig = MatchConfig()
    exclusions: ExclusionsConfig = ExclusionsConfig()
    value: ValueConfig = ValueConfig()
    ranking: RankingConfig = RankingConfig()
    audit: AuditConfig = AuditConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    drift: DriftConfig = DriftConfig()
    promotion: PromotionConfig = PromotionConfig()
    notify: NotifyConfig = NotifyConfig()
    training: TrainingConfig = TrainingConfig()
    ranker: RankerConfig = RankerConfig()
    search: SearchConfig = SearchConfig()
    adapter: AdapterConfig = AdapterConfig()

    def digest(self) -> str:
        """SHA-256 of what decides the rows: not where things are kept, what is judged or learned, who is told."""
        return _digest(self.model_dump(mode="json", exclude={**dict.fromkeys(UNDECISIVE, True), **BOUNDS}))

    def search_digest(self) -> str:
        """SHA-256 of what decides the trials of a search, beside its examples and the model it begins with."""
        values = self.model_dump(mode="json", include={"text", "ranker", "search"}) | {"k": self.evaluation.k}
        values |= {"ranker": self.ranker.model_dump(mode="json", exclude=KEPT_AT)}
        return _digest(values | {"search": self.search.model_dump(mode="json", exclude={"folder"})})

    def training_digest(self) -> str:
        """SHA-256 of what decides the examples that a model learns from."""
        decisive = {"inputs", "events", "sequences", "statistics", "training"}
        return _digest(self.model_dump(mode="json", include=decisive))


def _digest(values: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
