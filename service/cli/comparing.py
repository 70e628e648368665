"""`cdm compare` and `cdm study`."""

import hashlib
import re
import shlex
from collections.abc import Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from service.cli import documents, results, text, values, watching
from service.cli.connection import find, find_comparison
from service.cli.errors import CommandFailed, CommandMisused
from service.cli.hints import command
from service.cli.id_prefixes import whole_digest
from service.cli.inheritance import STUDY_REQUEST
from service.cli.options import (
    AsJson,
    Changes,
    EvaluateEvery,
    EvaluateList,
    JobName,
    LabelList,
    MaxRuntime,
    Name,
    Urgency,
    Watch,
    on_service,
)
from service.cli.output import say
from service.cli.submission import create, submit_and_report
from service.client import Client, Gone
from service.client.documents import understood
from service.client.jobs import JobOptions
from service.jobs.views import CONTROL_OF, OF_JOB, EvaluateEach, Job, JobCreate, JobState
from service.web.views import PLAIN_TEXT
from workers.contract.data import BuiltinDataset, ImportedDataset
from workers.contract.importing import ImportReport, ImportSpec
from workers.contract.jobs import AnySpec
from workers.contract.keys import RESULT
from workers.contract.spec import TrainSpec

_STUDY = "study"  # label: whose jobs these are
_LONGEST_NAME = 90  # with what a job is in a study it is a job's name


@on_service
def compare(
    client: Client,
    job: JobName,
    control: Annotated[str, typer.Argument(metavar="CONTROL", help="The training that it is compared with.")],
    name: Name = None,
    label: LabelList = [],
    priority: Urgency = None,
    max_runtime: MaxRuntime = None,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Put two trainings beside each other.

    By the evaluations that both have had: per image, and per second of work.
    """
    pair = {"job_id": find(client, job).id, "control_job_id": find(client, control).id}
    spec = documents.completed({"kind": "compare"} | pair, ())
    options = values.job_options(name, label, priority, max_runtime)
    submit_and_report(client, spec, options, watch=watch, as_json=as_json)


@on_service
def study(
    client: Client,
    source: Annotated[str, typer.Argument(metavar="PRESET_OR_FILE", help="A training with a consistency term.")],
    name: Annotated[str, typer.Option(help="Of the study; the same name goes on with it.")] = "study",
    evaluate_every: EvaluateEvery = None,
    evaluate: EvaluateList = [],
    changes: Changes = [],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the files of the comparison go.")
    ] = Path("study"),
    as_json: AsJson = False,
) -> None:
    """Find out whether consistency pays.

    Trains with and without it, evaluates both, and compares. The control is the same training by denoising score
    matching alone, with the same images in the same order and the same noise. Evaluations are asked for as by `cdm
    submit`. May be interrupted and given again.
    """
    _check_name(name)
    spec = documents.load(source, changes, whole=partial(whole_digest, client))
    if not isinstance(spec, TrainSpec) or spec.objective.consistency is None:
        raise CommandFailed(f"{source}: a study takes a training with objective.consistency")
    fields = {"every_images": evaluate_every}
    evaluations = documents.evaluations(fields, evaluate, whole=partial(whole_digest, client))
    with documents.named():  # before images are imported
        JobCreate(spec=spec, evaluations=evaluations, control="edm")
    try:
        compared = _Study(client, name, as_json=as_json).compared(spec, evaluations)
    except KeyboardInterrupt:
        lists = command(f"jobs --label {shlex.quote(f'{_STUDY}={name}')}")
        say(f"\nits jobs go on: {lists} lists them, and the same command goes on with the study", as_json=as_json)
        raise typer.Exit(130) from None
    results.show(client, compared, output, as_json=as_json)


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _LONGEST_NAME or not re.fullmatch(PLAIN_TEXT, name):
        raise CommandMisused(f"--name {name!r}: give 1 to {_LONGEST_NAME} characters, no control characters among them")


def _digest(request: JobCreate) -> str:
    """Of what it says, without what it leaves out: a later release has more fields."""
    return hashlib.sha256(request.model_dump_json(exclude_defaults=True).encode()).hexdigest()


class _Study:
    """The jobs of a study: a request that is given again, however late, finds the job that it made.

    It is known by what was asked for here: a file of this machine that is sent has another name each time.
    """

    def __init__(self, client: Client, name: str, *, as_json: bool) -> None:
        self._client, self._name, self._as_json = client, name, as_json

    def compared(self, spec: TrainSpec, evaluations: EvaluateEach) -> Job:
        """The comparison that ends it, after all that comes before."""
        spec = self.with_imported_images(spec)
        job = self.begin("job", spec, evaluations=evaluations, control="edm")
        pair = [job, self.control(job)]
        for each in pair:
            self.end(each)
        for each in pair:
            for evaluation in self.evaluations(each):
                self.end(evaluation)
        return self.end(self.comparison(job))

    def begin(
        self,
        role: str,
        spec: AnySpec,
        *,
        evaluations: EvaluateEach | None = None,
        control: Literal["edm"] | None = None,
    ) -> Job:
        request = JobCreate(
            name=f"{self._name} {role}",
            spec=spec,
            labels={_STUDY: self._name},
            evaluations=evaluations,
            control=control,
        )
        labels = {**request.labels, STUDY_REQUEST: _digest(request)}
        job = self._begun(labels)
        if job is None:
            self._refuse_another(spec.kind, than=labels[STUDY_REQUEST])
            job = self._created(request.model_copy(update={"labels": labels}))
        say(f"{role}: {job.id}", as_json=self._as_json)
        return job

    def _created(self, request: JobCreate) -> Job:
        options = JobOptions(
            name=request.name, labels=request.labels, evaluations=request.evaluations, control=request.control
        )
        return create(self._client, request.spec, options)

    def _begun(self, labels: Mapping[str, str]) -> Job | None:
        """The job of an earlier time."""
        found = (self._client.jobs.list(labels=labels, archived=archived) for archived in (None, True))
        return next((job for job in chain(*found) if CONTROL_OF not in job.labels), None)

    def _refuse_another(self, kind: str, *, than: str) -> None:
        """What was asked for under this name before must have been the same."""
        there = self._client.jobs.list(labels={_STUDY: self._name}, kind=kind)
        own = [job for job in there if CONTROL_OF not in job.labels]
        others = [job.id for job in own if job.labels.get(STUDY_REQUEST, than) != than]
        if others:
            mend = "give another --name, or ask for the same as then"
            raise CommandFailed(f"the study {self._name} has begun otherwise, with {', '.join(others)}: {mend}")

    def control(self, trained: Job) -> Job:
        try:
            return self._client.jobs.retrieve(cast(str, trained.control_job_id))
        except Gone:
            mend = f"{command(f'delete {trained.id}')}, too, and give this again: both are trained anew"
            raise CommandFailed(f"the control of {trained.id} was deleted; {mend}") from None

    def end(self, job: Job) -> Job:
        """Wait for it; raises CommandFailed if it does not succeed."""
        say(f"{job.name or job.id}:", as_json=self._as_json)
        ended = watching.watch(
            self._client.jobs.follow(job.id, poll_seconds=watching.POLL_SECONDS), as_json=self._as_json
        )
        if ended.state is not JobState.SUCCEEDED:
            mend = f"see {text.look(ended)}, then {command(f'retry {ended.id}')}, and give this again"
            raise CommandFailed(f"{ended.id} ended otherwise than hoped: {text.state(ended)}; {mend}")
        return ended

    def with_imported_images(self, spec: TrainSpec) -> TrainSpec:
        """So that both train on the very same, and both are refused early if they cannot."""
        dataset = spec.dataset
        if isinstance(dataset, BuiltinDataset | ImportedDataset):
            return spec
        job = self.end(self.begin("import", ImportSpec(kind="import", dataset=dataset)))
        report = understood(ImportReport, self._client.jobs.file(job.id, RESULT))
        imported = ImportedDataset(kind="imported", digest=report.manifest.digest)
        return spec.model_copy(update={"dataset": imported})

    def evaluations(self, trained: Job) -> list[Job]:
        """All of a training that has ended, once that of its last checkpoint is there; oldest first."""
        last = self._client.jobs.checkpoints(trained.id)[-1].images_seen

        def found() -> list[Job] | None:
            jobs = list(self._client.jobs.list(labels={OF_JOB: trained.id}, kind="evaluate"))
            of = [job.spec.checkpoint for job in jobs if job.spec.kind == "evaluate"]
            there = {each.images_seen for each in of if each}
            return jobs[::-1] if last in there else None

        return watching.until(found, what=f"the evaluation of {trained.id} at {last} images")

    def comparison(self, trained: Job) -> Job:
        """With its control, once it is submitted."""
        return watching.until(partial(find_comparison, self._client, trained), what=f"the comparison of {trained.id}")
