"""How far a Gaussian of every latent value is from the standard one.

Kingma and Welling 2013, "Auto-Encoding Variational Bayes", arXiv 1312.6114, appendix B.

B batch, C channels, h rows, w columns.
"""

from __future__ import annotations

from torch import Tensor


def standard_normal_kl(mean_BChw: Tensor, log_variance_BChw: Tensor) -> Tensor:
    """[B], in nats: the sum over latent values of (mean^2 + variance - 1 - log variance) / 2."""
    terms = mean_BChw.square() + log_variance_BChw.exp() - 1 - log_variance_BChw
    return 0.5 * terms.flatten(1).sum(1)
