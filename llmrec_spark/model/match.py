"""The attention match: how near an ad is to a history, exactly, for one pair or for everyone.

For behaviour g and ad a, with field vectors v_aj, behaviour vector u_g and keyword cosine k_ga:

    s_gj = u_g . v_aj,  w_gj = softmax_j(s_gj / tau),  c_ga = (1 - lambda) sum_j w_gj s_gj + lambda k_ga
    b_i = softmax_i(log p_i + c_ga / tau_u),  match = sum_i b_i c_ga

c_ga is one number per pair of items, so all users share one table C, and with E = exp((C - 1) / tau_u)

    match = sum_i p_i (C E)[g_i, a] / sum_i p_i E[g_i, a]

`match_block` computes that; `match_pairs` follows the first form for one user and keeps its terms for the reasons.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec_spark.config import MatchConfig
from llmrec_spark.model.behaviour_encoder import Histories, behaviour_vectors
from llmrec_spark.model.catalogue import Catalogue, open_catalogue

ROWS_AT_ONCE = 256  # of C: its planes stay in the processor's cache
USERS_AT_ONCE = 512


class Parameters(NamedTuple):
    """The numbers of the formula. The uniform form is the same formula at its limits."""

    keyword_share: float  # lambda
    field_temperature: float  # tau
    behaviour_temperature: float  # tau_u; infinite: all behaviours weigh alike
    uses_priors: bool

    @classmethod
    def of(cls, config: MatchConfig) -> Parameters:
        """What `match:` in conf asks for."""
        if config.form == "uniform":
            return cls(keyword_share=0.0, field_temperature=1.0, behaviour_temperature=inf, uses_priors=False)
        return cls(config.keyword_share, config.field_temperature, config.behaviour_temperature, uses_priors=True)


class PairTerms(NamedTuple):
    """The match of one user with K ads, taken apart. T behaviours, N fields and the keywords as field N."""

    match: np.ndarray  # (K,) float64; NaN for an ad without text or a user without behaviours
    terms: np.ndarray  # (T, N + 1, K) float64, b_i times the parts of c; they add up to match


def pair_parts(catalogue: Catalogue, rows: np.ndarray, ads: np.ndarray, parameters: Parameters, device: str) -> Tensor:
    """The parts of c, (T, N + 1, K) float32: (1 - lambda) w_gj s_gj for each field, then lambda k_ga.

    rows (T,) items that behave, ads (K,) items that are shown. A field an ad lacks has part 0.
    """
    fields = torch.as_tensor(catalogue.fields[ads], dtype=torch.long, device=device)  # (K, N)
    used, place = torch.unique(fields, return_inverse=True)  # shared texts are compared once; -1 may be among them
    u = torch.as_tensor(behaviour_vectors(catalogue.vectors, catalogue.fields[rows]), device=device)  # (T, D)
    v = torch.as_tensor(catalogue.vectors[used.clamp(min=0).cpu().numpy()], device=device)  # (used, D)
    s = (u @ v.T)[:, place.T]  # (T, N, K)
    present = (fields >= 0).T  # (N, K)
    w = (s / parameters.field_temperature).masked_fill(~present, -inf).softmax(dim=1).nan_to_num(0.0)
    parts = torch.zeros(len(rows), fields.shape[1] + 1, len(ads), device=device)
    torch.mul(w, s, out=parts[:, :-1]).mul_(1.0 - parameters.keyword_share)
    if parameters.keyword_share:
        k = (catalogue.keywords[rows] @ catalogue.keywords[ads].T).toarray()  # (T, K)
        parts[:, -1] = torch.as_tensor(k, device=device) * parameters.keyword_share
    return parts


@lru_cache(maxsize=1)
def block_tables(folder: str, block: int, block_ads: int, parameters: Parameters, device: str) -> Tensor:
    """[C E | E] of a block of live ads, (G, 2 B) float32, of the catalogue in `folder`; cached: a task keeps to one."""
    catalogue = open_catalogue(folder)
    ads = catalogue.live[block * block_ads : (block + 1) * block_ads]
    tables = torch.empty(len(catalogue.behaviours), 2 * len(ads), device=device)
    for start in range(0, len(catalogue.behaviours), ROWS_AT_ONCE):
        rows = catalogue.behaviours[start : start + ROWS_AT_ONCE]
        c = pair_parts(catalogue, rows, ads, parameters, device).sum(dim=1)  # (rows, B)
        e = ((c - 1.0) / parameters.behaviour_temperature).exp()
        tables[start : start + len(rows)] = torch.cat([c * e, e], dim=1)
    return tables


def match_block(tables: Tensor, histories: Histories, has_text: np.ndarray, parameters: Parameters) -> np.ndarray:
    """match of every user with every ad of a block, (U, B) float64; NaN without usable history or text.

    tables (G, 2 B) as above, has_text (B,) bool.
    """
    users = len(histories.offsets) - 1
    prior = histories.prior if parameters.uses_priors else np.ones_like(histories.prior)
    rows, weights = torch.as_tensor(histories.row).to(tables.device), torch.as_tensor(prior).to(tables.device)
    matches = np.full((users, len(has_text)), np.nan)
    for start in range(0, users, USERS_AT_ONCE):
        offsets = histories.offsets[start : start + USERS_AT_ONCE + 1]
        part = slice(int(offsets[0]), int(offsets[-1]))
        sums = F.embedding_bag(
            rows[part],
            tables,
            torch.as_tensor(offsets[:-1] - offsets[0]).to(tables.device),
            mode="sum",
            per_sample_weights=weights[part],
        )  # (users, 2 B)
        weighted, total = sums.double().chunk(2, dim=1)
        matches[start : start + len(sums)] = (weighted / total).cpu().numpy()  # 0 / 0 is NaN: no usable history
    matches[:, ~has_text] = np.nan
    return matches


def match_pairs(
    catalogue: Catalogue, histories: Histories, user: int, ads: np.ndarray, parameters: Parameters, device: str
) -> PairTerms:
    """The match of one user of a batch with the items `ads` (K,), by the direct formula."""
    of_user = histories.of(user)
    rows = catalogue.behaviours[histories.row[of_user]]
    parts = pair_parts(catalogue, rows, ads, parameters, device).double()  # (T, N + 1, K)
    c = parts.sum(dim=1)  # (T, K)
    prior = torch.as_tensor(histories.prior[of_user], dtype=torch.double, device=device)
    log_prior = prior.log() if parameters.uses_priors else torch.zeros_like(prior)
    b = (log_prior[:, None] + c / parameters.behaviour_temperature).softmax(dim=0)  # (T, K)
    terms = b[:, None, :] * parts
    match = terms.sum(dim=(0, 1)).cpu().numpy()
    match[(catalogue.fields[ads] < 0).all(axis=1) | (len(rows) == 0)] = np.nan
    return PairTerms(match, terms.cpu().numpy())
