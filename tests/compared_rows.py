"""Rows of `runs` and `evaluations` as a scored and evaluated day leaves them, made up."""

from datetime import date

from tests.conftest import at

SECONDS = {"matches": 3.0, "rankings": 1.0, "text_vectors": 50.0, "recommendations": 7.0}


def run_row(run_id, day, version, *, status="published", config="conf", digest=None, seconds=SECONDS):
    """A row of `runs`."""
    of_model = (version, digest or f"digest {version}")
    rest = (config, {}, {"users": 8}, seconds, ["rankings"], at(f"2026-03-0{day} 01:00"))
    return (run_id, "score_daily", date(2026, 3, day), status, *of_model, *rest)


def judged(champion, day, through, *, beside, difference=(-0.1, -0.15, -0.05)):
    """Rows of `evaluations` of a run beside another: ndcg .5 and .6, and the given difference of the two."""
    of_all = (("score", "ndcg", 0.5), (beside, "ndcg", 0.6), ("score", "coverage", 0.8), (beside, "coverage", 0.7))
    calibrated = (("p_click", 0.01), (f"p_click of {beside}", 0.02), ("rate", 0.5))
    rows = [
        *((scorer, metric, "all", value, None, None) for scorer, metric, value in of_all),
        *((scorer, "calibration_error", "all", value, None, None) for scorer, value in calibrated),
        ("score", "ndcg", "segment=a", 0.4, 0.3, 0.5),
        (beside, "ndcg", "segment=a", 0.3, 0.2, 0.4),
        (f"score - {beside}", "ndcg", "all", *difference),
        (f"score - {beside}", "ndcg", "segment=a", 0.1, -0.1, 0.3),
        (f"score - {beside}", "map", "all", 9.0, 9.0, 9.0),
    ]
    of_run, through = (date(2026, 3, day), champion), at(through)
    return [(*of_run, scorer, metric, 10, name, *ends, 40, through) for scorer, metric, name, *ends in rows]
