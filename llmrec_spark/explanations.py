"""Published lists in words: what a user did before, what is shown, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import read_inputs
from llmrec_spark.daily_publishing import published_run, refuse_expired
from llmrec_spark.errors import DataError
from llmrec_spark.runs import say
from llmrec_spark.sequences import SKIP, queries
from llmrec_spark.storage import Storage
from llmrec_spark.tables import AD_TEXTS, RANKINGS, SEQUENCES

HAN = r"[\u4e00-\u9fff]"
VERBS = {
    "click": "clicked",
    "cart": "put in the cart",
    "purchase": "bought",
    "view": "viewed",
    "search": "searched for",
    SKIP: "passed over",
}
KEYWORDS, EFFECT, NETWORK, SAME_PEOPLE = "keywords", "effect", "network", "acted on by the same people"  # of a reason
OF_TEXTS = {  # reasons of a network that reads histories as texts
    "clicks as one text": "what you clicked lately",
    "skips as one text": "what you passed over lately",
}
SHOWN_BEHAVIOURS, SHOWN_ADS, SHOWN_REASONS, SHOWN_WORDS = 8, 5, 2, 4


def example_users(sequences: DataFrame, ad_texts: DataFrame, lists: DataFrame) -> list[str]:
    """Three users to look at: the first with a Chinese history, the first other one with a history, the first without.

    First is by user_id, among those with at least 5 behaviours.
    """
    titles = ad_texts.where("field = 'title'").select("ad_id", F.col("text").rlike(HAN).alias("han"))
    of_users = (
        sequences.where(F.size("ad_ids") >= 5)
        .select("user_id", F.explode("ad_ids").alias("ad_id"))
        .join(titles, on="ad_id", how="inner")
        .join(lists, on="user_id", how="left_semi")
        .groupBy("user_id")
        .agg(F.avg(F.col("han").cast("double")).alias("han"))
    )
    [firsts] = of_users.agg(
        F.min(F.when(F.col("han") < 0.1, F.col("user_id"))).alias("other"),
        F.min(F.when(F.col("han") > 0.6, F.col("user_id"))).alias("chinese"),
    ).collect()
    [new] = lists.where("source = 'cold_start'").agg(F.min("user_id").alias("user_id")).collect()
    return [user for user in (firsts.other, firsts.chinese, new.user_id) if user is not None]


def show_published(
    storage: Storage, config: Config, day: date, *, users: Sequence[str] = (), length: int = SHOWN_ADS
) -> None:
    """show_lists of the run that a day's published lists are of. Raises DataError where the day is not published."""
    run = published_run(storage, day)
    if run is None:
        raise DataError(f"recommendations: {day} is not published. Run jobs/score_daily.py --date {day} first.")
    refuse_expired(storage, run)
    show_lists(storage, config, run.run_id, users=users, length=length)


def show_lists(
    storage: Storage, config: Config, run_id: str, *, users: Sequence[str] = (), length: int = SHOWN_ADS
) -> None:
    """Prints what a run lists for these users, or for three example users, with reasons in words, and where it is.

    Raises DataError where a user has no list.
    """
    sequences, texts, lists = (storage.read_run(one, run_id) for one in (SEQUENCES, AD_TEXTS, RANKINGS))
    chosen = list(users) or example_users(sequences, texts, lists)
    rows = lists.where(F.col("user_id").isin(chosen) & (F.col("rank") <= length)).orderBy("user_id", "rank").collect()
    histories = {row.user_id: row for row in sequences.where(F.col("user_id").isin(chosen)).collect()}
    words = Words(storage, config, texts, list(histories.values()), rows)
    for user in chosen:
        of_user = [row for row in rows if row.user_id == user]
        if not of_user:
            raise DataError(f"rankings: user {user} has no list in run {run_id}.")
        _show_user(user, histories.get(user), of_user, words)
    say(f"\nThe tables are under {config.tables.root or config.tables.catalog}: recommendations, matches, runs, ...")


class Words:
    """Titles, queries and keywords of what is printed, and of nothing else."""

    def __init__(
        self, storage: Storage, config: Config, texts: DataFrame, histories: Sequence[Row], rows: Sequence[Row]
    ) -> None:
        ads = {ad for row in histories for ad in row.ad_ids if ad} | {row.ad_id for row in rows}
        ads |= {reason.ad_id for row in rows for reason in row.reasons if reason.ad_id}
        found = texts.where(F.col("ad_id").isin(sorted(ads))).collect()
        self.title = {row.ad_id: row.text for row in found if row.field == "title"}
        self.keywords: dict[str, set[str]] = {}
        for row in found:
            self.keywords.setdefault(row.ad_id, set()).update(row.keywords)
        asked = sorted({one for row in histories for one in row.query_hashes if one})
        events = read_inputs(storage, config).tables["events"]
        of_log = queries(events, searches=config.events.searches).where(F.col("query_hash").isin(asked))
        self.currency = config.value.currency
        self.query = {row.query_hash: row.text for row in of_log.collect()}

    def of_behaviour(self, ad_id: str | None, query_hash: str | None) -> str:
        """What a behaviour was about, quoted."""
        text = self.query.get(query_hash or "") if ad_id is None else self.title.get(ad_id, ad_id)
        return f"“{text}”"

    def shared(self, one: str, other: str) -> list[str]:
        """Keywords that two ads share, longest first."""
        both = self.keywords.get(one, set()) & self.keywords.get(other, set())
        return sorted(both, key=lambda word: (-len(word), word))[:SHOWN_WORDS]


def _show_user(user: str, history: Row | None, rows: Sequence[Row], words: Words) -> None:
    say(f"\n── user {user}, {rows[0].source} " + "─" * 60)
    behaviours = (
        [] if history is None else list(zip(history.event_types, history.ad_ids, history.query_hashes, strict=True))
    )
    latest = f"the latest {SHOWN_BEHAVIOURS} of {len(behaviours)}, " if len(behaviours) > SHOWN_BEHAVIOURS else ""
    say(f"did before ({latest}latest first):" if behaviours else "did before: nothing that counts yet")
    for kind, ad_id, query_hash in behaviours[: -SHOWN_BEHAVIOURS - 1 : -1]:
        say(f"    {VERBS.get(kind, kind)} {words.of_behaviour(ad_id, query_hash)}")
    say("is shown:")
    for row in rows:
        figures = [f"score {row.score:.2f}"]
        figures += [] if row.p_click is None else [f"p_click {row.p_click:.3f}"]
        figures += [] if row.expected_value is None else [f"worth {row.expected_value:.3f} {words.currency}"]
        title = words.title.get(row.ad_id, row.ad_id)
        say(f"{row['rank']:>3}. {title}   [{', '.join([*figures, row.source])}]")
        say(f"       {reasons_in_words(row, words)}")


def reasons_in_words(row: Row, words: Words) -> str:
    """The largest reasons of a row: the behaviours behind them, the text field, and the keywords shared."""
    parts = []
    behaved = [reason for reason in row.reasons if reason.event_type is not None or reason.field in OF_TEXTS]
    behaved.sort(key=lambda reason: -abs(reason.contribution))
    for reason in behaved[:SHOWN_REASONS]:
        if reason.field in OF_TEXTS:
            because = "because of" if reason.contribution > 0 else "in spite of"
            parts.append(f"{because} {OF_TEXTS[reason.field]} (read as one text, {reason.contribution:+.2f})")
            continue
        did = VERBS.get(reason.event_type, reason.event_type)
        what = "something like it" if reason.ad_id is None else words.of_behaviour(reason.ad_id, None)
        because = "because you" if reason.contribution > 0 else "although you"
        how = _part_in_words(reason.field)
        if reason.field == KEYWORDS and reason.ad_id is not None:
            how = f"shared words: {', '.join(words.shared(reason.ad_id, row.ad_id)) or 'none'}"
        parts.append(f"{because} {did} {what} ({how}, {reason.contribution:+.2f})")
    if not behaved:
        effects = [one.contribution for one in row.reasons if one.field == EFFECT]
        parts = [f"because people click it ({one:+.2f} of log-odds)" for one in effects]
    return "; ".join(parts) or f"because people click it: rate {row.rate:.3f}"


def _part_in_words(field: str) -> str:
    """A text field of the match, or a kernel of a trained model."""
    if field == "same":
        return "the same ad"
    if field == SAME_PEOPLE:
        return "people who chose one chose the other"
    if field == NETWORK:
        return "with all you did"
    if field.startswith("near in "):
        return f"alike {field.removeprefix('near in ')}"
    if field.startswith("same "):
        return f"the {field}"
    return f"its {field.removesuffix(' text').removeprefix('slope of ').removeprefix('all ')}"
