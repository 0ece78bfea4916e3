from llmrec_spark.evaluations import ranking_sums
from llmrec_spark.example_lists import EACH, example_lists


def test_the_lists_with_the_largest_and_the_smallest_ndcg_are_shown_whole_each_user_once(spark):
    lists = [(f"u{place}", f"a{rank}", rank == place, -float(rank)) for place in range(5) for rank in range(6)]
    no_click = [("none", f"a{rank}", False, 0.0) for rank in range(3)]
    judged = spark.createDataFrame(
        [*lists, *no_click], "user_id string, ad_id string, clicked boolean, score double"
    ).repartition(3)
    slices = judged.selectExpr("user_id", "array('all', 'user=known') AS slices").distinct()
    found = example_lists(ranking_sums(judged, slices, scorers=["score"], k=10), judged).collect()
    shown = {kind: sorted({row.user_id for row in found if row.kind == kind}) for kind in ("best", "worst")}
    assert shown == {"best": ["u0", "u1", "u2"], "worst": ["u3", "u4"]}  # fewer than EACH are left
    assert EACH == 3
    assert len(found) == 5 * 6
    assert {(row.user_id, row.ad_id) for row in found if row.clicked} == {(f"u{n}", f"a{n}") for n in range(5)}
