"""The match formula of design.md, section 2, in plain Python and float64: the twin of llmrec_spark.model.match."""

from collections import Counter
from math import exp, inf, log, sqrt

import numpy as np

from llmrec_spark.model.match import Parameters
from tests.model.catalogues import Text


def softmax(logits):
    weights = [exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def tfidf(words, world):
    counts = Counter(words)
    return {
        word: n * (log((1 + world.documents) / (1 + world.frequency.get(word, 0))) + 1) for word, n in counts.items()
    }


def cosine(left, right):
    lengths = [sqrt(sum(value**2 for value in side.values())) for side in (left, right)]
    if not all(lengths):
        return 0.0
    return sum(value * right.get(word, 0.0) for word, value in left.items()) / (lengths[0] * lengths[1])


def texts_of(world, behaviour):
    if behaviour.ad_id is None:
        return [Text(behaviour.query, world.queries[behaviour.query])] if behaviour.query in world.queries else []
    return list(world.ads[behaviour.ad_id].values()) if behaviour.ad_id in world.behaved else []


def similarity(world, behaved, shown, parameters):
    """c of a behaviour with these texts and an ad with those."""
    mean = np.mean([world.vectors[text.text_hash].astype(float) for text in behaved], axis=0)
    u = mean / np.linalg.norm(mean)
    s = [float(u @ world.vectors[text.text_hash].astype(float)) for text in shown]
    w = softmax([one / parameters.field_temperature for one in s])
    words = [[word for text in side for word in text.keywords] for side in (behaved, shown)]
    k = cosine(tfidf(words[0], world), tfidf(words[1], world))
    share = parameters.keyword_share
    return (1 - share) * sum(weight * one for weight, one in zip(w, s, strict=True)) + share * k


def slow_match(world, history, ad_id, parameters):
    usable = [(behaviour, texts) for behaviour in history or [] if (texts := texts_of(world, behaviour))]
    shown = list(world.ads[ad_id].values())
    if not usable or not shown:
        return np.nan
    c = [similarity(world, texts, shown, parameters) for _, texts in usable]
    logits = [one.log_prior + c_i / parameters.behaviour_temperature for (one, _), c_i in zip(usable, c, strict=True)]
    return sum(weight * c_i for weight, c_i in zip(softmax(logits), c, strict=True))


def slow_uniform_match(world, history, ad_id):
    usable = [texts for behaviour in history or [] if (texts := texts_of(world, behaviour))]
    shown = list(world.ads[ad_id].values())
    plain = Parameters(keyword_share=0.0, field_temperature=1.0, behaviour_temperature=inf, uses_priors=False)
    return np.mean([similarity(world, texts, shown, plain) for texts in usable]) if usable and shown else np.nan
