"""The page that is written of it."""

from collections.abc import Sequence

from tests.benchmarks import hardware
from tests.benchmarks.runtime.figures import Aim, Section

_PAGE = """\
# What the runtime costs

Written by `python -m tests.benchmarks.runtime`. {hardware} Load of the machine before the run: {load}.

All servers run on the same cores as training. Alternatives were measured in one run, in turn, in alternating order;
ratios are computed within each turn. Figures are median [least, greatest] over all turns.

{sections}

## Aims

{aims}
"""


def rendered(sections: Sequence[Section], *, load: str) -> str:
    """A page of Markdown."""
    return _PAGE.format(
        hardware=hardware.described(),
        load=load,
        sections="\n\n".join(map(section, sections)),
        aims="\n".join(f"- {each.title}: {_said(aim)}" for each in sections for aim in each.aims),
    )


def section(each: Section) -> str:
    rows = [each.header, ["---"] * len(each.header), *each.rows]
    return "\n".join(
        [f"## {each.title}\n", each.how, f"{each.repeats} turns.", "", *(f"| {' | '.join(cells)} |" for cells in rows)]
    )


def _said(aim: Aim) -> str:
    return f"{aim.what}: {'met' if aim.is_met else '**missed**'} ({aim.found})"
