"""The data plane: trains consistent diffusion models, with or without a service around it."""
