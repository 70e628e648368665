"""What every network is to the rest of the program."""

from jaxtyping import Float
from torch import Tensor, nn

from workers.diffusion.conditions import Conditions


class Network(nn.Module):
    """F(x, c_noise, conditions): from a noisy image in unit variance and its noise level to the denoiser's raw output.

    Dropout is what `conditions.dropout` says, in training and evaluation alike; None: there is none.
    """

    dropout_elements: int = 0  # the most elements that an image has at a dropout layer; 0: the network has no dropout

    def forward(
        self, x: Float[Tensor, "batch channels *size"], c_noise: Float[Tensor, " batch"], conditions: Conditions
    ) -> Float[Tensor, "batch channels *size"]:
        raise NotImplementedError
