"""From two Delta tables to a published day of ad recommendations. This is the reading order: it is the lineage.

Ground: no Spark, no torch
    errors              what a user can mend, each with the exit code of a job
    config_section      what every part of the configuration is
    promotion_config    how much worse a challenger may be
    training_config     which examples a model learns from
    adapter_config      how an encoder learns from clicks
    network_config      a network that ranks, and how it is trained
    ranker_config       what a ranker learns from them
    search_config       which of a ranker's settings a search tries
    evaluation_config   how a day is judged, and what is an alert
    config              what a YAML file of conf/ may say
    config_files        such a file, read, and what is wrong in it
    tables              every table of ours: columns, types, keys, comments
    input_tables        those of the company
    evaluation_tables   those of an evaluated day
    training_tables     those a model learns from
    texts               normalised, segmented into keywords, hashed
    metrics             of orders and probabilities, on arrays
    policy_values       what another ranking would have earned, on arrays, and when not to say it
    drift               a day's figures and scores against the days before, on arrays
    promotion_gates     whether a challenger may become champion, on figures of both
    command_line        options and exit codes of the jobs

The line of data, Spark only
    events              which events count
    ads                 which ads there are, and which are live
    impressions         which impressions were clicked
    sequences           the history of each user
    ad_texts            what an encoder reads of an ad, and its keywords
    ad_statistics       the rate of each ad
    ad_neighbours       which ads the same people act on
    exclusions          what must not be shown to whom
    candidates          who gets a list, of which ads
    quarantine          the rows that the checks of all these refused

The line of data, Spark on the driver and model/ on the executors
    text_vectors        one vector per distinct text
    ad_catalogue        the ads and queries of a run as arrays that every node maps
    tastes              what a trained model makes of each history
    backgrounds         how well each ad matches people at large
    matches             how well each ad suits each user
    rankings            the final lists, with their reasons
    list_variety        how varied the top of each list is

The end of the line, Spark only
    recommendations     the lists audited, and as they are published
    outcomes            what came of each impression of a day
    judged_lists        what was shown, as a run and the baselines order it
    bootstrap           sums per user -> values with intervals
    list_exposures      how the places of the lists fall on the ads
    evaluations         sums per user of every metric
    example_lists       lists that were ordered best and worst
    reliability         predicted against observed clicks
    off_policy          what a day's log says of other lists
    ad_quality          what people made of each ad, and whether its text is in order
    score_profiles      figures of a run and samples of its scores, for later days to compare with
    training_splits     which examples train, validate and test
    training_histories  what was known of the user of each example
    training_statistics  what was known of each ad
    sampled_negatives   ads drawn where a log does not say what was shown
    training_examples   what came of each shown ad, and what was known before

Around the line
    column_maps         an input under our column names and types
    daily_inputs        the company's tables pinned, checked, counted
    model_registration  an encoder becomes a model
    history_texts       the clicks and skips of a user as a language model reads them
    daily_catalogue     the ads of a day, encoded and shared
    daily_stages        each stage of a day, given those before it
    daily_scoring       these in order, written, audited
    daily_publishing    the one commit that readers see, and what is forgotten
    explanations        published lists in words
    run_notices         who is told that a run starts and how it ends
    daily_runs          one run per day asked for
    accepted_log        the log, users and ads as training and evaluation read them
    held_back           how well scorers order lists that were held back, on arrays
    training_data       the tables a model learns from, filled some days at a time
    settings_search     settings tried one after another, and the best of them
    training_cost       seconds and memory of a block
    training_search     those of a ranker, on lists of validation
    training_ablation   what each part of a ranker brings
    distributed_training  a network learned by several processes
    training_judgement  a trained model beside others, on lists held back
    training_material   what every training reads: examples, encoded ads, lists in memory
    model_training      a ranker learned from the tables
    model_cards         what a trained model is and how good it was, in words
    training_plots      its drawings
    training_runs       one training, written and registered
    encoder_adaptation  an encoder adapted to clicks, judged, written and registered
    daily_off_policy    what the lists of runs would have earned
    daily_variety       how varied its lists are, beside baselines
    daily_drift         a run's profile kept, compared, and what left its bounds
    daily_evaluation    a day judged, once its clicks are in
    evaluation_summary  an evaluated day, printed
    report_words        numbers, metrics and scorers as a reader sees them
    report_headlines    what a report says first
    report_parts        a section of it: words, a drawing, a table
    report_drawings     the style of its drawings
    report_plots        each drawing
    report_quality      how good the lists were
    report_run          what the run cost, what drifted, examples
    reports             an evaluated day as one HTML file
    report_examples     the best and worst lists of a day, in words
    evaluation_reports  what a report says of a day, from the tables
    evaluation_runs     one evaluation per day asked for
    compared_runs       two versions on the newest day that judged both
    model_promotion     a challenger becomes champion, or the champion before it again
    simulation          a published day answered by simulated people
    ranklens            RankLens as a company would have it

The doors
    session             to Spark
    worker_daemon       what it forks Python workers from
    storage             to Delta
    runs                what a run did, and what of it can be used again
    model_versions      which version an alias means, and who was champion before
    tracked_trials      the trials of a search as runs of MLflow
    stored_models       a model's folder as MLflow stores it
    registry            to MLflow
    registered_model    the code MLflow stores beside a model
    lineage_events      a run as OpenLineage tells it
    notifications       to who is told how a run ended: hooks, OpenLineage, Prometheus

model/: torch and numpy, no Spark, no MLflow
    example_batches     the examples streamed from the files of their table
    whole_folder        a folder that appears complete or not at all
    encoder_adapter     few weights that change what an encoder says
    ad_encoder          texts -> vectors
    embedded            the two encoders that come as packages
    checkpoint          a model as one folder that cannot be changed unnoticed
    keywords            TF-IDF
    catalogue           what the match needs of ads and queries
    behaviour_encoder   a history -> weighted items
    match               the attention match, by table and by the formula
    ranker              match -> lift, log-odds, score; the best of each user; caps
    losses              the loss of a list
    pair_kernels        how alike two items are, in several ways
    item_effect         what pulls people to an item whoever they are
    prior_features      texts and columns of an item, made narrow
    ridge_prior         what is expected of an item, as a linear function of these
    isotonic            probabilities on a rising curve
    count_effects       the effect of an item from how often it was shown and clicked
    ad_reader           what a trained ranker reads of ads, the same on every day
    taste_gp            a history -> a signed weight per behaviour, in closed form
    pair_features       what a reranker reads of a user and an ad
    linear_ranker       these -> a score whose parts add up
    tree_ranker         LambdaMART on them, and the mean of several scores
    network_batches     lists, histories and ads as tensors; what reads examples for a network
    network_lists       padded lists and histories -> such batches
    history_augmentation  histories cropped, masked, reordered
    behaviour_networks  a history -> tokens, by LSTM, Transformer or text; target attention
    heads               a vector per ad -> p_click and p_conversion
    network_losses      those of both probabilities, and their sum
    ranking_network     lists and histories -> log-odds
    pretraining         what histories teach without a label
    training_checkpoint  where a training was
    training_steps      the gradient of one step
    training_loop       epochs of steps, whatever kills them
    training            a network trained
    network_attribution  what each behaviour adds to a network's log-odds
    reranker            these scores stacked, and their reasons
    kernel_groups       kernels by what they compare, and a look-up without some
    taste_ranker        effects, tastes and calibrated probabilities as part of a model
    taste_scoring       users and ads of a run through it
    taste_reranking     the best ads of one user through its second step, and why
    scoring             users against a block of ads
    reasons             the parts of a score
    lists               the final lists of a batch of users
    single_pairs        the match of pairs given as text
    training_sample     the lists that training holds in memory
    adapter_training    an encoder adapted: what is clicked by the same people comes closer
    example_scores      what such a ranker says of examples
    network_training    these -> a network
    rerank_training     these -> a reranker
    calibration         its scores become probabilities
    taste_training      examples -> such a ranker
    trials              how well such a ranker orders the lists of validation
    untrained_examples  what the untrained score says of examples
    item_prior          what is expected of one nobody has met, by its kernels with those that were
"""
