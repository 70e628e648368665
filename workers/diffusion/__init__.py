"""The mathematics of diffusion and of its consistency regulariser: pure functions of tensors, randomness passed in.

Symbols are those of Karras et al. 2022 (EDM, arXiv 2206.00364) and Daras et al. 2023 (CDM, arXiv 2302.09057):
sigma = t = noise level of x_t = x_0 + sigma n (variance exploding); D(x, sigma) = the denoiser, an estimate of
E[x_0 | x_t].
"""
