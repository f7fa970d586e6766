"""All statistics of the analysis in one place; each function's docstring gives its source and its edges.

* :mod:`model_chat.analysis.estimates`: rates and means with intervals, cluster bootstrap, ratings per worker;
* :mod:`model_chat.analysis.comparison`: differences, permutation tests, effect sizes, power;
* :mod:`model_chat.analysis.agreement`: Krippendorff's alpha and raw agreement;
* :mod:`model_chat.analysis.worker_quality`: who to look at twice.
"""

from model_chat.analysis.agreement import Agreement, agreement
from model_chat.analysis.comparison import (
    Power,
    cliffs_delta,
    cohens_h,
    difference,
    hedges_g,
    holm,
    permutation_p_values,
    power_to_compare,
)
from model_chat.analysis.estimates import (
    Bootstrap,
    Estimate,
    bootstrap,
    cluster_sums,
    linearised_se,
    mean,
    rate,
    standardise_per_worker,
)
from model_chat.analysis.worker_quality import worker_quality

__all__ = [
    "Agreement",
    "Bootstrap",
    "Estimate",
    "Power",
    "agreement",
    "bootstrap",
    "cliffs_delta",
    "cluster_sums",
    "cohens_h",
    "difference",
    "hedges_g",
    "holm",
    "linearised_se",
    "mean",
    "permutation_p_values",
    "power_to_compare",
    "rate",
    "standardise_per_worker",
    "worker_quality",
]
