"""Whether uncertainty predicts error: the error rate on only the least uncertain images (El-Yaniv & Wiener, 2010)."""

# Shapes: N images.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

SHARES = tuple(percent / 100 for percent in range(10, 101, 10))


def calibration(
    uncertainty_N: NDArray[np.float64], wrong_N: NDArray[np.int64], pixels_N: NDArray[np.int64]
) -> dict[str, Any]:
    """JSON-ready scores from each image's uncertainty, number of wrong pixels and number of scored pixels.

    Images without scored pixels do not count. `rank_correlation`: Spearman's, in [-1, 1], between uncertainty and the
    share of wrong pixels; None if either is constant. `risk_coverage`: the error rate, a fraction of the pixels, of the
    least uncertain 10 %, 20 %, … of the images. `aurc`: its mean over all shares. `perfect_aurc`: the `aurc` of the
    images in the order of their error rates, the least possible where all have as many scored pixels.
    """
    scored = pixels_N > 0
    uncertainty_N, wrong_N, pixels_N = uncertainty_N[scored], wrong_N[scored], pixels_N[scored]
    rates_N = wrong_N / pixels_N
    if not len(rates_N):
        return {"rank_correlation": None, "aurc": None, "perfect_aurc": None, "risk_coverage": []}
    curve_N, best_N = (
        _risks(order, wrong_N, pixels_N)
        for order in (np.argsort(uncertainty_N, kind="stable"), np.argsort(rates_N, kind="stable"))
    )
    ranked: Any = uncertainty_N, rates_N  # scipy's stubs ask for arrays of four axes
    constant = len(set(uncertainty_N.tolist())) < 2 or len(set(rates_N.tolist())) < 2
    kept = {share: max(1, round(share * len(rates_N))) for share in SHARES}
    return {
        "rank_correlation": None if constant else float(spearmanr(*ranked).statistic),
        "aurc": float(curve_N.mean()),
        "perfect_aurc": float(best_N.mean()),
        "risk_coverage": [
            {"coverage": share, "images": number, "error": float(curve_N[number - 1])} for share, number in kept.items()
        ],
    }


def _risks(order_N: NDArray[np.int64], wrong_N: NDArray[np.int64], pixels_N: NDArray[np.int64]) -> NDArray[np.float64]:
    """Error rate (N,) of the first 1, 2, ..., N images in that order."""
    return np.cumsum(wrong_N[order_N]) / np.cumsum(pixels_N[order_N])
