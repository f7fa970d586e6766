"""All statistics of the analysis in one place; each function's docstring gives its source and edge cases.

* :mod:`model_chat.analysis.estimates`: rates and means with intervals, cluster bootstrap, ratings per worker;
* :mod:`model_chat.analysis.comparison`: differences, effect sizes, power;
* :mod:`model_chat.analysis.permutation`: tests of differences, with their intervals;
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
from model_chat.analysis.permutation import DifferenceTest, Method, compare_models
from model_chat.analysis.worker_quality import worker_quality

__all__ = [
    "Agreement",
    "Bootstrap",
    "DifferenceTest",
    "Estimate",
    "Method",
    "Power",
    "agreement",
    "bootstrap",
    "cliffs_delta",
    "cluster_sums",
    "cohens_h",
    "compare_models",
    "difference",
    "hedges_g",
    "holm",
    "linearised_se",
    "mean",
    "power_to_compare",
    "rate",
    "standardise_per_worker",
    "worker_quality",
]
