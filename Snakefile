"""The graph of notebook runs: `python -m study.plan.graph profiles/embedded.yml`.

A profile says which runs there are (`study.plan.plan`). Each is one execution of a
stage's notebook: its record and its model or scores are the outputs, those of the runs that it
builds on are the inputs. Which λ is pruned at is known only when the operating point has been
selected, so the selection is a checkpoint.

That command calls Snakemake: `snakemake --cores 2 --config profile=profiles/embedded.yml` does the
same, but does not tidy up after a call that was killed.

--config: profile=FILE, source=FOLDER (of the data), results=FOLDER, runs=FOLDER, notebooks=FOLDER
(of the stages' notebooks).
"""

import json
import os
import sys
from functools import cache
from pathlib import Path

from study.plan.graph import JOB_OF
from study.plan.parameters import STAGES
from study.plan.plan import Planner, record_file
from study.plan.single_runs import id_of
from study.plan.profile import read_profile
from study.plan.select import selected_points

PROFILE = config.get("profile", "profiles/embedded.yml")
PLANNER = Planner(
    read_profile(PROFILE, source=config.get("source")),
    results=config.get("results", "results"),
    runs=config.get("runs", "runs"),
)
NOTEBOOKS = config.get("notebooks", "notebooks")
PLACE = f"{PLANNER.profile.provenance}/{PLANNER.profile.name}"
RECORDS = f"{PLANNER.results}/{PLACE}"
RUNS = f"{PLANNER.runs}/{PLACE}"
ARTIFACTS = {"score": "scores.json", "time": None}  # of the other stages: a model
SELECTIONS = {selection.id: name for name, selection in PLANNER.selections().items()}

os.environ[JOB_OF] = os.getcwd()  # jobs inherit it: so they can be told should this process die


@cache
def runs_after(points):
    """All runs by id, given the JSON text of the selected operating points."""
    return {id_of(run): run for run in PLANNER.plan(json.loads(points))}


def runs():
    """All runs that can be named by now, by id."""
    return runs_after(json.dumps(selected_points(PLANNER)))


def outputs(run):
    """The record of a run, and its model or scores."""
    stage = run.partition("/")[0]
    artifact = ARTIFACTS.get(stage, "model")
    record = str(record_file(PLANNER, run))
    return [record, f"{RUNS}/{run}/{artifact}"] if artifact else [record]


def upstream(stage):
    """What a run of this stage builds on.

    The files of its questions do not count: a copy of them is newer, but the same; records keep
    their digest.
    """

    def of_run(wildcards):
        run = runs()[f"{stage}/{wildcards.run}"]
        return [path for name in run.upstream() for path in outputs(name)]

    return of_run


def parameters(stage):
    """The parameters that make a run what it is, as JSON: a change of them makes it anew."""
    return lambda wildcards: json.dumps(
        runs()[f"{stage}/{wildcards.run}"].identity(), ensure_ascii=False
    )


def place(stage):
    """Where a run reads and writes, as JSON.

    A move of the folders makes no run anew: Snakemake compares no parameter that takes `output`.
    """
    return lambda wildcards, output: json.dumps(runs()[f"{stage}/{wildcards.run}"].place())


def resource(stage, name):
    """What a stage needs, as the profile says."""
    return getattr(PLANNER.profile.resources_of(stage), name)


def everything(wildcards):
    """All records of the profile; those after a selection once it has been made."""
    for selection in SELECTIONS:
        checkpoints.select.get(run=selection.partition("/")[2])
    return [path for run in runs() for path in outputs(run)]


def candidates(wildcards):
    """Records of the L0 runs that a selection chooses from."""
    selection = PLANNER.selections()[SELECTIONS[f"select/{wildcards.run}"]]
    return [
        str(record_file(PLANNER, run)) for ids in selection.candidates.values() for run in ids
    ]


def data_of_selection(wildcards):
    """Name of the questions that a selection is for."""
    return SELECTIONS[f"select/{wildcards.run}"]


wildcard_constraints:
    run="[^/]+",


localrules:
    all,
    select,


rule all:
    input:
        everything,


rule finetune:
    input:
        upstream("finetune"),
    output:
        f"{RECORDS}/finetune/{{run}}.json",
        directory(f"{RUNS}/finetune/{{run}}/model"),
    log:
        f"{RUNS}/finetune/{{run}}.ipynb",
    params:
        parameters=parameters("finetune"),
        place=place("finetune"),
        notebook=f"{NOTEBOOKS}/{STAGES['finetune'].notebook}.ipynb",
    threads: resource("finetune", "threads")
    resources:
        gpu=resource("finetune", "gpu"),
        mem_mb=resource("finetune", "mem_mb"),
        runtime=resource("finetune", "minutes"),
    shell:
        "OMP_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false"
        " {sys.executable} -m study.stages.run {params.notebook} {log}"
        " --parameters {params.parameters:q} --parameters {params.place:q}"


use rule finetune as score with:
    input:
        upstream("score"),
    output:
        f"{RECORDS}/score/{{run}}.json",
        f"{RUNS}/score/{{run}}/scores.json",
    log:
        f"{RUNS}/score/{{run}}.ipynb",
    params:
        parameters=parameters("score"),
        place=place("score"),
        notebook=f"{NOTEBOOKS}/{STAGES['score'].notebook}.ipynb",
    threads: resource("score", "threads")
    resources:
        gpu=resource("score", "gpu"),
        mem_mb=resource("score", "mem_mb"),
        runtime=resource("score", "minutes"),


checkpoint select:
    input:
        candidates,
    output:
        f"{RECORDS}/select/{{run}}.json",
    params:
        data=data_of_selection,
    shell:
        "{sys.executable} -m study.plan.select {PROFILE} {params.data}"
        " --results {PLANNER.results}"


use rule finetune as prune with:
    input:
        upstream("prune"),
    output:
        f"{RECORDS}/prune/{{run}}.json",
        directory(f"{RUNS}/prune/{{run}}/model"),
    log:
        f"{RUNS}/prune/{{run}}.ipynb",
    params:
        parameters=parameters("prune"),
        place=place("prune"),
        notebook=f"{NOTEBOOKS}/{STAGES['prune'].notebook}.ipynb",
    threads: resource("prune", "threads")
    resources:
        gpu=resource("prune", "gpu"),
        mem_mb=resource("prune", "mem_mb"),
        runtime=resource("prune", "minutes"),


use rule finetune as retrain with:
    input:
        upstream("retrain"),
    output:
        f"{RECORDS}/retrain/{{run}}.json",
        directory(f"{RUNS}/retrain/{{run}}/model"),
    log:
        f"{RUNS}/retrain/{{run}}.ipynb",
    params:
        parameters=parameters("retrain"),
        place=place("retrain"),
        notebook=f"{NOTEBOOKS}/{STAGES['retrain'].notebook}.ipynb",
    threads: resource("retrain", "threads")
    resources:
        gpu=resource("retrain", "gpu"),
        mem_mb=resource("retrain", "mem_mb"),
        runtime=resource("retrain", "minutes"),


use rule finetune as time with:
    input:
        upstream("time"),
    output:
        f"{RECORDS}/time/{{run}}.json",
    log:
        f"{RUNS}/time/{{run}}.ipynb",
    params:
        parameters=parameters("time"),
        place=place("time"),
        notebook=f"{NOTEBOOKS}/{STAGES['time'].notebook}.ipynb",
    threads: resource("time", "threads")
    resources:
        gpu=resource("time", "gpu"),
        mem_mb=resource("time", "mem_mb"),
        runtime=resource("time", "minutes"),
