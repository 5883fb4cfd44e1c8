"""The graph of notebook runs: `python -m study graph profiles/embedded.yml`.

A profile says which runs there are (`study.plan`). Each is one execution of a stage's notebook: its
record and the mark of its folder are the outputs, those of the runs that it builds on are the
inputs. Which λ is pruned at is known only when the operating point has been selected, so the
selection is a checkpoint.

That command calls Snakemake: `snakemake --cores 2 --config profile=profiles/embedded.yml` does the
same, but takes a lock of its own too, which a call that was killed leaves (`--unlock`).

--config: profile=FILE, source=FOLDER (of the data), results=FOLDER, runs=FOLDER, notebooks=FOLDER
(of the stages' notebooks).
"""

import json
import sys
from functools import cache

from snakemake.exceptions import WorkflowError

from qaprune_lib.errors import SettingsError
from study.plan.graph import begin, given, planner_of
from study.plan.ownership import watch_owner
from study.plan.profile import read_profile
from study.plan.select import selected_points
from study.records.record import FINISHED

CALL = given(config)
PROFILE = CALL.get("profile", "profiles/embedded.yml")
SOURCE = CALL.get("source")
NOTEBOOKS = CALL.get("notebooks", "notebooks")
PLANNER = planner_of(read_profile(PROFILE, source=SOURCE), CALL)
PLACE = f"{PLANNER.profile.provenance}/{PLANNER.profile.name}"
RECORDS = f"{PLANNER.results}/{PLACE}"
RUNS = f"{PLANNER.runs}/{PLACE}"
SELECTIONS = {selection.id: data for data, selection in PLANNER.selections().items()}

if not workflow.is_main_process:  # of a job on another machine, perhaps of a call that is no more
    watch_owner()


@cache
def own_runs():
    """Once a call begins, but not when it only looks: in a dry run, or for a summary."""
    if workflow.is_main_process and workflow.executor_plugin and not workflow.dryrun:
        try:
            begin(PLANNER)
        except SettingsError as error:
            raise WorkflowError(str(error)) from None


@cache
def runs_after(points):
    """All runs by id, given the JSON text of the selected operating points."""
    return {run.id: run for run in PLANNER.plan(json.loads(points))}


def run_of(wildcards):
    """The run of a job."""
    own_runs()
    return runs_after(json.dumps(selected_points(PLANNER)))[wildcards.run]


def outputs(run):
    """The record of a run, and the mark of its folder."""
    return [f"{RECORDS}/{run}.json", f"{RUNS}/{run}/{FINISHED}"]


def upstream(wildcards):
    """What a run builds on.

    The files of its questions do not count: a copy of them is newer, but the same.
    """
    return [path for name in run_of(wildcards).upstream() for path in outputs(name)]


def parameters(wildcards):
    """The parameters that make a run what it is, as JSON: a change of them makes it anew."""
    return json.dumps(run_of(wildcards).identity(), ensure_ascii=False)


def place(wildcards, output):
    """Where a run reads and writes, as JSON.

    A move of the folders makes no run anew: Snakemake compares no parameter that takes `output`.
    """
    return json.dumps(run_of(wildcards).place(), ensure_ascii=False)


def need(name):
    """What a run needs of the machine, as the profile says of its stage."""
    return lambda wildcards: getattr(PLANNER.profile.resources_of(run_of(wildcards).stage), name)


def selecting(wildcards, output):
    """The command line of a selection."""
    source = ["--source", SOURCE] if SOURCE else []
    return [PROFILE, SELECTIONS[wildcards.run], "--results", PLANNER.results, *source]


def everything(wildcards):
    """All records of the profile; those after a selection once it has been made."""
    own_runs()
    for selection in SELECTIONS:
        checkpoints.select.get(run=selection)
    points = selected_points(PLANNER)
    return [path for run in runs_after(json.dumps(points)) for path in outputs(run)]


localrules:
    all,
    select,


rule all:
    input:
        everything,


rule run:
    input:
        upstream,
    output:
        f"{RECORDS}/{{run}}.json",
        f"{RUNS}/{{run}}/{FINISHED}",
    log:
        f"{RUNS}/{{run}}/notebook.ipynb",
    wildcard_constraints:
        run="(?!selection/).+",
    params:
        parameters=parameters,
        place=place,
        notebook=lambda wildcards: f"{NOTEBOOKS}/{run_of(wildcards).notebook}.ipynb",
    threads: need("threads")
    resources:
        gpu=need("gpu"),
        mem_mb=need("mem_mb"),
        runtime=need("minutes"),
    shell:
        "OMP_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false"
        " {sys.executable:q} -m study run {params.notebook:q} {log:q}"
        " --parameters {params.parameters:q} --parameters {params.place:q}"


checkpoint select:
    input:
        lambda wildcards: [
            f"{RECORDS}/{run}.json"
            for run in PLANNER.selections()[SELECTIONS[wildcards.run]].upstream()
        ],
    output:
        f"{RECORDS}/{{run}}.json",
    wildcard_constraints:
        run="selection/.+",
    params:
        options=selecting,
    shell:
        "{sys.executable:q} -m study select {params.options:q}"
