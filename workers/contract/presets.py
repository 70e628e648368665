"""Complete job documents to start from, by name."""

from workers.contract.data import BuiltinDataset
from workers.contract.model import Consistency, ExponentialMovingAverage, Objective, Optimizer, Sampler, UNet
from workers.contract.spec import Cadence, Compute, TrainSpec

PRESETS: dict[str, TrainSpec] = {
    # The quick start: 10,000 Fashion-MNIST images at 16x16, minutes on two CPU cores.
    "fashion16": TrainSpec(
        kind="train",
        dataset=BuiltinDataset(kind="builtin", name="fashion16"),
        network=UNet(
            kind="unet", channels=32, channel_multipliers=(1, 2, 2), blocks_per_level=1, class_conditional=True
        ),
        objective=Objective(consistency=Consistency(estimator="symmetric")),
        optimizer=Optimizer(learning_rate=2e-3, warmup_images=2_000),
        ema=ExponentialMovingAverage(halflife_images=2_000),
        compute=Compute(workers=2, accelerator="cpu"),
        batch_images=64,
        duration_images=18_000,
        cadence=Cadence(log_images=512, checkpoint_images=6_000),
    ),
    # A few steps of a tiny network: proves that an installation works, shows nothing.
    "smoke": TrainSpec(
        kind="train",
        dataset=BuiltinDataset(kind="builtin", name="fashion16"),
        network=UNet(kind="unet", channels=8, channel_multipliers=(1, 2), blocks_per_level=1, class_conditional=True),
        ema=ExponentialMovingAverage(halflife_images=200),
        sampler=Sampler(steps=4),
        compute=Compute(workers=2, accelerator="cpu"),
        batch_images=16,
        duration_images=320,
        cadence=Cadence(log_images=32, checkpoint_images=160),
    ),
}
