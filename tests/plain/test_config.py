from math import inf

import pytest
from pydantic import ValidationError

from llmrec_spark.config import BOUNDS, UNDECISIVE, Config, MatchConfig
from llmrec_spark.config_files import known_keys, load_config
from llmrec_spark.config_section import public, without_secrets
from llmrec_spark.errors import ConfigError

SMALLEST = """
inputs:
  events: {path: in/events}
  ads: {path: in/ads}
tables: {root: out}
mlflow: {tracking_uri: "sqlite:///out/mlflow.db"}
"""
SEPARATORS = "text: {{separators: {{{}}}}}\n"


@pytest.fixture
def written(tmp_path):
    """Writes a configuration and gives its path."""

    def write(text):
        path = tmp_path / "conf.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def smallest(written):
    return written(SMALLEST)


def refusal(path, *overrides):
    """What the error says."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_a_file_without_settings_has_the_defaults(smallest):
    assert load_config(smallest).match == MatchConfig()


def test_a_value_of_the_file_replaces_the_default(written):
    assert load_config(written(SMALLEST + "match: {beta: 0.5}")).match.beta == 0.5


def test_a_configuration_cannot_be_changed(smallest):
    with pytest.raises(ValidationError, match="frozen"):
        load_config(smallest).match.beta = 0.5


@pytest.mark.parametrize(
    "unknown, nearest",
    [
        ("match: {betta: 1}", "match.beta"),
        ("match: {keyword_shares: 1}", "match.keyword_share"),
        ("matches: {}", "match"),
        ("text: {field: [title]}", "text.fields"),
        ("encoding: {settings: {poling: mean}}", "encoding.settings.pooling"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(written, unknown, nearest):
    assert refusal(written(SMALLEST + unknown)).endswith(f"unknown key. Did you mean {nearest}?")


def test_an_unknown_key_like_no_other_is_refused_without_a_guess(written):
    path = written(SMALLEST + "zzzz: 1")
    assert refusal(path) == f"{path}: zzzz: unknown key."


def test_every_known_key_is_named_once():
    keys = list(known_keys())
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("key", ["match", "match.beta", "inputs.users.path", "encoding.settings.pooling"])
def test_sections_optional_sections_and_their_keys_are_known(key):
    assert key in set(known_keys())


@pytest.mark.parametrize(
    "override, section, key, value",
    [
        ("match.beta=0.5", "match", "beta", 0.5),
        ("match.form=uniform", "match", "form", "uniform"),
        ("match.half_life_days=null", "match", "half_life_days", None),
        ("match.half_life_days=", "match", "half_life_days", None),
        ("ranking.drop_near_duplicates=false", "ranking", "drop_near_duplicates", False),
        ("text.fields=[title, people]", "text", "fields", ("title", "people")),
        ('text.separators={tags: "|"}', "text", "separators", {"tags": "|"}),
        ("mlflow.tracking_uri=http://host?a=b", "mlflow", "tracking_uri", "http://host?a=b"),
        ("match.beta=.inf", "match", "beta", inf),
    ],
)
def test_set_gives_a_typed_value(smallest, override, section, key, value):
    assert getattr(getattr(load_config(smallest, [override]), section), key) == value


def test_set_reaches_into_nested_sections(smallest):
    config = load_config(smallest, ["encoding.settings.pooling=cls", "inputs.users.path=in/users"])
    assert (config.encoding.settings.pooling, config.inputs.users.path) == ("cls", "in/users")


def test_set_replaces_a_whole_section(smallest):
    config = load_config(smallest, ["inputs.ads={name: main.ads.live}"])
    assert (config.inputs.ads.path, config.inputs.ads.name) == (None, "main.ads.live")


def test_set_adds_a_key_to_a_dictionary_of_the_file(written):
    path = written(SMALLEST + "events: {weights: {impression: 0, click: 1, purchase: 3, search: 1}}")
    assert load_config(path, ["events.weights.rating=0.5"]).events.weights["rating"] == 0.5


def test_the_last_set_of_a_key_wins(smallest):
    assert load_config(smallest, ["match.beta=1", "match.beta=2"]).match.beta == 2.0


@pytest.mark.parametrize(
    "override, says",
    [
        ("match.beta", "expected key=value"),
        ("match.beta.x=1", "match.beta: found {'x': 1}; input should be a valid number"),
        ("tables.root.x=1", "--set tables.root.x=1: root is a value, not a section"),
        ("ranker.rerank=network", "ranker.rerank: found 'network'; input should be a list such as [a, b]"),
        ("match.beta=[1", "is not YAML"),
        ("match.betta=1", "match.betta: unknown key. Did you mean match.beta?"),
        ("=1", "unknown key"),
    ],
)
def test_a_set_that_cannot_be_is_refused(smallest, override, says):
    assert says in refusal(smallest, override)


@pytest.mark.parametrize("text", ["inputs: [", "a: b: c", "\tinputs: 1", "a: \x00"])
def test_what_is_not_yaml_is_refused_on_one_line(written, text):
    said = refusal(written(text))
    assert "conf.yaml: is not YAML: " in said
    assert "\n" not in said


@pytest.mark.parametrize("text, found", [("", "NoneType"), ("- a", "list"), ("3", "int")])
def test_a_file_that_holds_no_keys_is_refused(written, text, found):
    assert f"conf.yaml: found {found}, expected keys" in refusal(written(text))


def test_a_missing_file_is_refused_by_its_name(tmp_path):
    path = tmp_path / "none.yaml"
    assert refusal(path).startswith(f"{path}: cannot be read (No such file or directory)")


def test_a_folder_is_refused_as_a_file(tmp_path):
    assert "cannot be read" in refusal(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "latin1.yaml"
    path.write_bytes("experiment: café".encode("latin-1"))
    assert refusal(path).startswith(f"{path}: is not UTF-8 text")


@pytest.mark.parametrize(
    "setting, says",
    [
        ("match: {beta: much}", "match.beta: found 'much'; input should be a valid number"),
        ("match: {beta: -1}", "match.beta: found -1; input should be greater than or equal to 0"),
        ("match: {beta: .nan}", "match.beta: found nan"),
        ("match: {behaviour_temperature: 0.01}", "match.behaviour_temperature: found 0.01"),
        ("match: {form: linear}", "match.form: found 'linear'; input should be 'attention' or 'uniform'"),
        ("match: {keep_per_user: 1.5}", "match.keep_per_user: found 1.5"),
        ("match: 3", "match: found 3"),
        ("text: {fields: [title, price]}", "text.fields.1: found 'price'"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_what_was_found(written, setting, says):
    assert f"conf.yaml: {says}" in refusal(written(SMALLEST + setting))


def test_every_wrong_key_is_named(written):
    assert len(refusal(written(SMALLEST + "match: {beta: -1, keyword_share: 2}")).splitlines()) == 2


def test_a_missing_section_is_named(written):
    assert "conf.yaml: tables: is missing." in refusal(written(SMALLEST.replace("tables: {root: out}", "")))


@pytest.mark.parametrize("place", ["{}", "{path: in/events, name: main.events}"], ids=["neither", "both"])
def test_an_input_has_either_a_path_or_a_name(written, place):
    said = refusal(written(SMALLEST.replace("{path: in/events}", place)))
    assert "inputs.events: found {" in said
    assert "give either path (a folder or URI) or name (catalog.schema.table)." in said


@pytest.mark.parametrize("place", ["{}", "{root: out, catalog: main.ads}"], ids=["neither", "both"])
def test_our_tables_have_either_a_root_or_a_catalog(written, place):
    assert "give either root (a folder or URI) or catalog (main.ads)." in refusal(
        written(SMALLEST.replace("{root: out}", place))
    )


def test_an_event_type_without_a_weight_is_refused(written):
    said = refusal(written(SMALLEST + "events: {weights: {click: 1}, conversions: [], searches: []}"))
    assert "impressions names ['impression'], which weights does not; known: ['click']" in said


@pytest.mark.parametrize("way", ["{}", "{command: [a], webhook: 'http://u:hunter2@h/'}", "{command: []}"])
def test_a_hook_has_either_a_command_or_a_webhook_and_the_refusal_shows_no_secret(written, way):
    said = refusal(written(SMALLEST + f"notify: {{hooks: [{{command: [ok]}}, {way}]}}"))
    assert "conf.yaml: notify.hooks.1: " in said
    assert "the program and its arguments" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "setting, says",
    [
        ("hooks: [{webhook: 'ftp://u:hunter2@h'}]", "notify.hooks.0.webhook: string should match pattern"),
        ("openlineage_url: 'u:hunter2@h'", "notify.openlineage_url: string should match pattern"),
        ("hooks: [{command: 'curl u:hunter2@h'}]", "notify.hooks.0.command: input should be a list such as [a, b]"),
        ("hooks: [{webhok: 'http://u:hunter2@h'}]", "unknown key. Did you mean notify.hooks.webhook?"),
    ],
)
def test_what_is_wrong_with_who_is_told_is_refused_without_its_value(written, setting, says):
    said = refusal(written(SMALLEST + f"notify: {{{setting}}}"))
    assert says in said
    assert "hunter2" not in said


def test_set_names_a_hook(smallest):
    [hook] = load_config(smallest, ["notify.hooks=[{command: [page, --us], timeout_seconds: 3}]"]).notify.hooks
    assert (hook.command, hook.webhook, hook.timeout_seconds) == (("page", "--us"), None, 3.0)


@pytest.mark.parametrize(
    "override",
    [
        "tables.root=elsewhere",
        "mlflow.model=a/folder",
        "audit.min_users=9",
        "encoding.encoder=minilm",
        "events.max_refused_share=0.2",
        "text.max_unknown_share=0.5",
        "evaluation.k=5",
        "drift.max_ks=0.2",
        "notify.prometheus_file=a.prom",
        "notify.hooks=[{command: [page-us]}]",
        "training.seed=2",
    ],
)
def test_the_digest_ignores_where_things_are_kept_what_is_judged_or_learned_and_who_is_told(smallest, override):
    assert load_config(smallest, [override]).digest() == load_config(smallest).digest()


@pytest.mark.parametrize(
    "section",
    sorted(set(Config.model_fields) - {"inputs", *UNDECISIVE}),
)
def test_the_digest_changes_with_every_number_of_a_stage(smallest, section):
    config = load_config(smallest)
    part = getattr(config, section)
    for key, value in part:
        if isinstance(value, int | float) and key not in BOUNDS.get(section, ()):
            changed = config.model_copy(
                update={section: part.model_copy(update={key: not value if isinstance(value, bool) else value + 1})}
            )
            assert changed.digest() != config.digest(), f"{section}.{key}"


@pytest.mark.parametrize("override", ["inputs.ads.path=other", "text.fields=[title]"])
def test_the_digest_changes_with_what_is_read_and_how(smallest, override):
    assert load_config(smallest, [override]).digest() != load_config(smallest).digest()


def test_the_digest_follows_the_values_not_their_order_in_the_file(written):
    one = load_config(written(SMALLEST + SEPARATORS.format('tags: "|", people: ","')))
    other = load_config(written(SEPARATORS.format('people: ",", tags: "|"') + SMALLEST))
    assert one.digest() == other.digest()


def test_the_digest_is_64_hexadecimal_digits(smallest):
    assert len(bytes.fromhex(load_config(smallest).digest())) == 32


@pytest.mark.parametrize("override", ["training.seed=2", "statistics.window_days=null", "sequences.max_skips=3"])
def test_the_digest_of_the_examples_changes_with_what_decides_them(smallest, override):
    assert load_config(smallest, [override]).training_digest() != load_config(smallest).training_digest()


def test_the_digest_of_the_examples_ignores_how_ads_are_matched(smallest):
    assert load_config(smallest, ["match.beta=1"]).training_digest() == load_config(smallest).training_digest()


@pytest.mark.parametrize(
    "text, cut",
    [
        ("https://hooks.company.com/services/T0/B0/x", "https://hooks.company.com"),
        ("POST HTTP://u:p@host:9/x failed", "POST HTTP://host:9 failed"),
        ("https://u:p@ss@host", "https://host"),
        ("https://token@host?key=a@b", "https://host"),
        ("s3a://key:secret@bucket/a b", "s3a://bucket/a b"),
        ("mysql://token@host/mlflow", "mysql://host/mlflow"),
        ("abfss://ads@company.net/x?sig=1 y", "abfss://ads@company.net/x y"),
        ("found 3 rows: a/b@c?", "found 3 rows: a/b@c?"),
    ],
)
def test_secrets_are_cut_out_of_urls(text, cut):
    assert without_secrets(text) == cut


def test_what_is_shown_of_a_configuration_has_no_secret_at_any_depth():
    shown = public(
        {"inputs": {"events": {"path": "s3a://key:hunter2@logs/events?token=hunter2"}}, "hosts": ["a://u:hunter2@b", 3]}
    )
    assert shown == {"inputs": {"events": {"path": "s3a://logs/events"}}, "hosts": ["a://b", 3]}
