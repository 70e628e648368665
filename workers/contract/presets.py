"""Complete job documents to start from, by name."""

from workers.contract.compute import Compute
from workers.contract.consistency import Symmetric
from workers.contract.data import Augmentation, BuiltinDataset, FolderDataset, ZipDataset
from workers.contract.model import EDM, Churn, ExponentialMovingAverage, Objective, Optimizer, Sampler
from workers.contract.networks import ADM, DDPMpp
from workers.contract.spec import Cadence, TrainSpec

_MILLION = 1_000_000
# The authors' later advice, and no loss where we measured it: learn plainly first, then to be consistent.
_FROM_A_THIRD_ON = Objective(consistency=Symmetric(estimator="symmetric", start=0.3))


def _edm(
    *,
    zip_file: str,
    side: int,
    network: DDPMpp | ADM,
    batch_images: int,
    learning_rate: float,
    sampler: Sampler,
    compute: Compute,
    augmentation: float | None,
    duration_millions: int = 200,
    halflife_millions: float = 0.5,
    keep_every_images: int = 10_240_000,
    loss_scale: float = 1,
) -> TrainSpec:
    """A training run with the constants of EDM (Karras et al. 2022, appendix F), and the consistency term.

    Its loss is `loss_scale` times the sum over the 3 * side^2 pixels, ours their mean: with gradients so much smaller,
    Adam takes the same steps only with an epsilon so much smaller, too.

    Of its checkpoints, of a gigabyte and more, some twenty stay: enough to choose the best, as published figures do.
    Those are at multiples of `checkpoint_images` and of `log_images`, so that the former may be `auto`, too.
    """
    return TrainSpec(
        kind="train",
        dataset=ZipDataset(kind="zip", path=f"datasets/{zip_file}"),
        augmentation=Augmentation(probability=augmentation) if augmentation else None,
        network=network,
        preconditioning=EDM(kind="edm", sigma_data=0.5),
        objective=_FROM_A_THIRD_ON,
        optimizer=Optimizer(
            learning_rate=learning_rate, epsilon=1e-8 / (3 * side**2 * loss_scale), warmup_images=10 * _MILLION
        ),
        ema=ExponentialMovingAverage(kind="exponential", halflife_images=round(halflife_millions * _MILLION)),
        sampler=sampler,
        compute=compute,
        batch_images=batch_images,
        duration_images=duration_millions * _MILLION,
        cadence=Cadence(
            log_images=100 * batch_images,
            checkpoint_images=2_560_000,
            keep_last=2,
            keep_every_images=keep_every_images,
        ),
    )


def _cifar10(*, class_conditional: bool) -> TrainSpec:
    return _edm(
        zip_file="cifar10-32x32.zip",
        side=32,
        network=DDPMpp(kind="ddpmpp", dropout=0.13, class_conditional=class_conditional),
        batch_images=512,
        learning_rate=1e-3,
        sampler=Sampler(steps=18),
        compute=Compute(workers=8),
        augmentation=0.12,
    )


def _faces64(*, zip_file: str, dropout: float) -> TrainSpec:
    return _edm(
        zip_file=zip_file,
        side=64,
        network=DDPMpp(kind="ddpmpp", channel_multipliers=(1, 2, 2, 2), dropout=dropout),
        batch_images=256,
        learning_rate=2e-4,
        sampler=Sampler(steps=40),
        compute=Compute(workers=8),
        augmentation=0.15,
    )


PRESETS: dict[str, TrainSpec] = {
    # The quick start: 10,000 Fashion-MNIST images at 16x16, minutes on two CPU cores.
    "fashion16": TrainSpec(
        kind="train",
        dataset=BuiltinDataset(kind="builtin", name="fashion16"),
        network=DDPMpp(
            kind="ddpmpp",
            channels=32,
            channel_multipliers=(1, 2, 2),
            blocks_per_level=1,
            attention_resolutions=(8,),
            class_conditional=True,
        ),
        objective=Objective(consistency=Symmetric(estimator="symmetric")),
        optimizer=Optimizer(learning_rate=2e-3, warmup_images=2_000),
        ema=ExponentialMovingAverage(kind="exponential", halflife_images=900),
        compute=Compute(workers=2, accelerator="cpu"),
        batch_images=64,
        duration_images=18_000,
        cadence=Cadence(log_images=512, checkpoint_images=6_000),
    ),
    # A few steps of a tiny network: proves that an installation works, shows nothing.
    "smoke": TrainSpec(
        kind="train",
        dataset=BuiltinDataset(kind="builtin", name="fashion16"),
        network=DDPMpp(
            kind="ddpmpp",
            channels=8,
            channel_multipliers=(1, 2),
            blocks_per_level=1,
            attention_resolutions=(8,),
            class_conditional=True,
        ),
        ema=ExponentialMovingAverage(kind="exponential", halflife_images=16),
        sampler=Sampler(steps=4),
        compute=Compute(workers=2, accelerator="cpu"),
        batch_images=16,
        duration_images=320,
        cadence=Cadence(log_images=32, checkpoint_images=160),
    ),
    # Images of your own at 32x32, by tens of minutes on two CPU cores: --set dataset=... says where they are.
    "own32": TrainSpec(
        kind="train",
        dataset=FolderDataset(kind="folder", path="datasets/own", resolution=32),
        network=DDPMpp(
            kind="ddpmpp",
            channels=32,
            channel_multipliers=(1, 2, 2),
            blocks_per_level=1,
            attention_resolutions=(8,),
        ),
        objective=Objective(consistency=Symmetric(estimator="symmetric")),
        optimizer=Optimizer(learning_rate=2e-3, warmup_images=2_000),
        ema=ExponentialMovingAverage(kind="exponential", halflife_images=2_000),
        compute=Compute(workers=2, accelerator="cpu"),
        batch_images=64,
        duration_images=15_360,
        cadence=Cadence(log_images=512, checkpoint_images=5_120),
    ),
    # The paper's image sets, as ZIPs of EDM's dataset tool: --set dataset.path=... says where yours is.
    "cifar10-uncond": _cifar10(class_conditional=False),
    "cifar10-cond": _cifar10(class_conditional=True),
    "afhqv2-64": _faces64(zip_file="afhqv2-64x64.zip", dropout=0.25),
    "ffhq-64": _faces64(zip_file="ffhq-64x64.zip", dropout=0.05),
    "imagenet-64": _edm(
        zip_file="imagenet-64x64.zip",
        side=64,
        network=ADM(kind="adm", dropout=0.10, class_conditional=True),
        batch_images=4096,
        learning_rate=1e-4,
        sampler=Sampler(steps=256, churn=Churn()),
        compute=Compute(workers=32, precision="bfloat16", microbatch_images=64),
        augmentation=None,
        duration_millions=2500,
        halflife_millions=50,
        keep_every_images=102_400_000,
        loss_scale=100,
    ),
}
