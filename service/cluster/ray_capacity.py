"""What a Ray cluster has, and what of it is in use, from two kinds of reports (2.60).

With a monitor, or with the second autoscaler, Ray accounts for each node itself, in prose. Without (`--no-monitor`) it
is added up from placement groups and actors here; what plain tasks hold is not seen then.
"""

import re
from collections.abc import Iterable, Mapping

from service.cluster.base import NO_RESOURCES, Resources
from service.cluster.ray_answers import Actors, Groups, NodeSummary

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"

# "3.0/4.0 CPU (1.0 used of 2.0 reserved in placement groups)": of what is reserved, 3.0 includes only what is used.
_LINE = re.compile(
    rf"^(?P<used>{_NUMBER})/{_NUMBER} (?P<name>CPU|GPU)"
    rf"(?: \((?P<used_of_reserved>{_NUMBER}) used of (?P<reserved>{_NUMBER}) reserved in placement groups\))?$",
    re.MULTILINE,
)


def total_of(nodes: NodeSummary) -> Resources:
    """What the living ones have."""
    return _sum(raylet.total for raylet in nodes.living)


def reported_use(nodes: NodeSummary) -> Resources | None:
    """What Ray's own accounts say is in use; None unless they are there for all that the living nodes have."""
    uses = [(raylet.total, _use(nodes.usage.get(raylet.node_id, ""))) for raylet in nodes.living]
    if any(not total.keys() & {"CPU", "GPU"} <= use.keys() for total, use in uses):
        return None
    return _sum(use for _, use in uses)


def held(groups: Groups, actors: Actors) -> Resources:
    """What placement groups reserve, and actors outside of them. What is in a group uses what that reserved."""
    bundles = (bundle.unit_resources for group in groups.entries for bundle in group.bundles)
    alone = (actor.required_resources for actor in actors.entries if actor.placement_group_id is None)
    return _sum(bundles) + _sum(alone)


def _use(report: str) -> dict[str, float]:
    return {
        line["name"]: float(line["used"]) + float(line["reserved"] or 0) - float(line["used_of_reserved"] or 0)
        for line in _LINE.finditer(report)
    }


def _sum(amounts: Iterable[Mapping[str, float]]) -> Resources:
    total = NO_RESOURCES
    for amount in amounts:
        total += Resources(cpus=amount.get("CPU", 0.0), gpus=amount.get("GPU", 0.0))
    return total
