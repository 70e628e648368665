"""The martingale regulariser of CDM, from one exact reverse step per sample.

A denoiser is consistent if E[D(x_s, s) | x_t] = D(x_t, t) for s < t along its own reverse process. The released CDM
integrates that process in five Euler-Maruyama steps; over short intervals (r = (t - s) / t <= 0.3) one ancestral step
has the same bias and less variance, and its only evaluation is the one that denoising score matching has already made
at (x_t, t).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workers.diffusion.denoiser import Denoise, per_image


def ancestral_step(
    x: Float[Tensor, "batch *shape"],
    denoised: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    sigma_next: Float[Tensor, " batch"],
    noise: Float[Tensor, "batch *shape"],
) -> Float[Tensor, "batch *shape"]:
    """Draw x_s ~ q(x_s | x_t, x_0 = denoised), s <= t: the exact solution of the reverse SDE with the denoiser frozen.

    x_s = D + (s/t)^2 (x - D) + (s/t) sqrt(t^2 - s^2) z. Also known as DDPM's posterior and as SDE-DPM-Solver-1.
    """
    ratio = per_image(sigma_next / sigma, x)
    spread = per_image((sigma**2 - sigma_next**2).clamp(min=0).sqrt(), x)
    return denoised + ratio**2 * (x - denoised) + ratio * spread * noise


def symmetric(
    denoise: Denoise,
    x: Float[Tensor, "batch *shape"],
    denoised: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    sigma_next: Float[Tensor, " batch"],
    labels: Int[Tensor, " batch"] | None,
    noises: Float[Tensor, "2 batch *shape"],
) -> Float[Tensor, " batch"]:
    """|| E[D(x_s, s)] - D(x_t, t) ||^2 per image, mean over its elements; unbiased, and therefore at times negative.

    (D(x', s) - D(x, t)) . (D(x'', s) - D(x, t)) with independent x', x''. The square of a single sample would add the
    variance of D(x', s), which is a hundred times larger than the violation. Gradients flow through all three
    predictions, not through the step itself (as in the paper).
    """
    start = denoised.detach()
    x_next = torch.cat([ancestral_step(x, start, sigma, sigma_next, noise) for noise in noises])
    labels_twice = None if labels is None else torch.cat([labels, labels])
    first, second = denoise(x_next, torch.cat([sigma_next, sigma_next]), labels_twice).chunk(2)
    return ((first - denoised) * (second - denoised)).flatten(1).mean(1)


def target(
    frozen: Denoise,
    x: Float[Tensor, "batch *shape"],
    denoised: Float[Tensor, "batch *shape"],
    sigma: Float[Tensor, " batch"],
    sigma_next: Float[Tensor, " batch"],
    labels: Int[Tensor, " batch"] | None,
    noise: Float[Tensor, "batch *shape"],
) -> Float[Tensor, " batch"]:
    """|| D(x_t, t) - D_frozen(x_s, s) ||^2 per image: value regression on a frozen denoiser (the EMA network).

    A semi-gradient with the same fixed points as `symmetric`, for one evaluation without gradient. Its value is not the
    violation: it holds the variance of the target too, so it does not fall to zero.
    """
    with torch.no_grad():
        x_next = ancestral_step(x, denoised, sigma, sigma_next, noise)
        goal = frozen(x_next, sigma_next, labels)
    return (denoised - goal).square().flatten(1).mean(1)
