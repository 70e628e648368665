"""Which of our denoisers an object in a snapshot of EDM or CDM is: from constructor arguments to configurations."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from workers.contract.data import Resolution
from workers.contract.document import Document, problems_of
from workers.contract.model import Preconditioning
from workers.contract.networks import Network
from workers.networks.edm_pickle import SnapshotError
from workers.pickles import Record

Options = Mapping[str, Any]

_NETWORK: TypeAdapter[Network] = TypeAdapter(Network)
_PRECONDITIONING: TypeAdapter[Preconditioning] = TypeAdapter(Preconditioning)
_SIGMA_DATA = 0.5

# Arguments that ours have, too, by another name; and what the constructors assume where a snapshot does not say.
_NAMES = {
    "model_channels": "channels",
    "channel_mult": "channel_multipliers",
    "num_blocks": "blocks_per_level",
    "attn_resolutions": "attention_resolutions",
    "dropout": "dropout",
}
_SONG_ASSUMES: Options = dict(zip(_NAMES, (128, [1, 2, 2, 2], 4, [16], 0.1), strict=True))
_ADM_ASSUMES: Options = dict(zip(_NAMES, (192, [1, 2, 3, 4], 3, [32, 16, 8], 0.1), strict=True))

# Arguments that ours have one value of. That of DDPM++ is also what the constructor assumes.
_DDPMPP: Options = {
    "channel_mult_emb": 4,
    "embedding_type": "positional",
    "channel_mult_noise": 1,
    "encoder_type": "standard",
    "decoder_type": "standard",
    "resample_filter": [1, 1],
}
_NCSNPP: Options = {
    **_DDPMPP,
    "embedding_type": "fourier",
    "channel_mult_noise": 2,
    "encoder_type": "residual",
    "resample_filter": [1, 3, 3, 1],
}
_ADM: Options = {"channel_mult_emb": 4}

_ALWAYS_GIVEN = ("img_resolution", "in_channels", "out_channels")
_IN_TRAINING_ONLY = ("label_dropout",)


class Inputs(Document):
    """What a network is for, and what it is told."""

    image_channels: Annotated[int, Field(ge=1, le=4)]
    resolution: Resolution
    num_classes: Annotated[int, Field(ge=0, le=100_000)]
    augmentation_features: Annotated[int, Field(ge=0, le=64)]


def preconditioning_of(denoiser: Record) -> tuple[Preconditioning, float]:
    """The preconditioning of a denoiser and its sigma_data, which only EDM's makes use of.

    Raises:
        SnapshotError: there is none like it here.
    """
    options = _options(denoiser)
    match denoiser.class_name:
        case "EDMPrecond":
            given: Options = {"kind": "edm", "sigma_data": options.get("sigma_data", _SIGMA_DATA)}
        case "VPPrecond":
            _require(denoiser, options, fixed={"M": 1000}, assumed={"M": 1000})
            names = ("beta_d", "beta_min", "epsilon_t")
            given = {"kind": "vp", **{name: options[name] for name in names if name in options}}
        case "VEPrecond":
            given = {"kind": "ve", **{name: options[name] for name in ("sigma_min", "sigma_max") if name in options}}
        case other:
            raise SnapshotError(f"its denoiser is a {other}; known are EDMPrecond, VPPrecond and VEPrecond")
    try:
        return _PRECONDITIONING.validate_python(given), float(given.get("sigma_data", _SIGMA_DATA))
    except ValidationError as error:
        raise _refused(denoiser, error) from None


def network_of(model: Record) -> tuple[Network, Inputs]:
    """The configuration of a network, and what it is for.

    Raises:
        SnapshotError: it is, or has an option, that ours are not or have not, by name.
    """
    options = _options(model)
    kind, assumed, fixed = _family(model, options)
    _require(model, options, fixed=fixed, assumed=_DDPMPP)
    known = {*_NAMES, *fixed, *_ALWAYS_GIVEN, *_IN_TRAINING_ONLY, "label_dim", "augment_dim"}
    if unknown := sorted(options.keys() - known):
        raise SnapshotError(f"its {model.class_name} has options that are unknown here: {', '.join(unknown)}")
    if missing := [name for name in _ALWAYS_GIVEN if name not in options]:
        raise SnapshotError(f"its {model.class_name} does not say its {' and '.join(missing)}")
    _require(model, options, fixed={"out_channels": options["in_channels"]}, assumed={})
    given = {ours: options.get(theirs, assumed[theirs]) for theirs, ours in _NAMES.items()}
    num_classes = options.get("label_dim", 0)
    try:
        network = _NETWORK.validate_python({"kind": kind, "class_conditional": num_classes != 0} | given)
        inputs = Inputs(
            image_channels=options["in_channels"],
            resolution=options["img_resolution"],
            num_classes=num_classes,
            augmentation_features=options.get("augment_dim", 0),
        )
    except ValidationError as error:
        raise _refused(model, error) from None
    return network, inputs


def _family(model: Record, options: Options) -> tuple[str, Options, Options]:
    """Its kind in our contract, what its constructor assumes, and what it must be."""
    match model.class_name:
        case "SongUNet" if options.get("embedding_type") == "fourier":
            return "ncsnpp", _SONG_ASSUMES, _NCSNPP
        case "SongUNet":
            return "ddpmpp", _SONG_ASSUMES, _DDPMPP
        case "DhariwalUNet":
            return "adm", _ADM_ASSUMES, _ADM
        case other:
            raise SnapshotError(f"its network is a {other}; known are SongUNet and DhariwalUNet")


def _options(record: Record) -> Options:
    """The arguments that an object was made with."""
    options = record.get("_init_kwargs")
    if record.get("_init_args") or not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise SnapshotError(f"its {record.class_name} does not say by name which options it was made with")
    return options


def _require(record: Record, options: Options, *, fixed: Options, assumed: Options) -> None:
    for name, value in fixed.items():
        if (given := options.get(name, assumed.get(name))) != value:
            raise SnapshotError(f"its {record.class_name} has {name} = {given!r}; ours has {value!r} only")


def _refused(record: Record, error: ValidationError) -> SnapshotError:
    return SnapshotError(f"its {record.class_name} cannot be one of ours: {'; '.join(map(str, problems_of(error)))}")
