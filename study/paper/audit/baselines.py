"""Audit of Table 1, the small models: its parameters and its gaps, and the text beside tables."""

from __future__ import annotations

from study.paper.audit.item import AuditItem, Check
from study.paper.published import TABLE_1, TABLE_2, TABLE_3, TABLE_4, DistilledRow
from study.paper.published_text import TEXT
from study.paper.released import (
    BERT_BASE,
    BERT_LARGE,
    DISTILBERT,
    ROBERTA_BASE,
    ROBERTA_LARGE,
    TINYBERT,
    Released,
)

MILLION = 1e6
LARGE, BASE, *DISTILLED = TABLE_1.rows


def _parameters(label: str, published: float, model: Released) -> Check:
    return Check(
        label=label,
        published=published,
        computed=model.parameters / MILLION,
        tolerance=1,
        relative=True,
    )


def parameters_of_bert() -> AuditItem:
    """Table 1's parameters against the models it names."""
    distilbert, tinybert = DISTILLED
    return AuditItem(
        name="parameters_of_bert",
        statement="Table 1's parameters are those of the models that it names, within 1%",
        whose="paper",
        sources=("Table 1", "Section 1"),
        unit="millions",
        checks=(
            _parameters(LARGE.model, LARGE.parameters, BERT_LARGE),
            _parameters(BASE.model, BASE.parameters, BERT_BASE),
            _parameters(distilbert.model, distilbert.parameters, DISTILBERT),
            _parameters(tinybert.model, tinybert.parameters, TINYBERT),
            Check(
                label="BERT-large, the text's number",
                published=LARGE.parameters,
                computed=TEXT["bert_parameters"].value,
                tolerance=1,
                relative=True,
            ),
        ),
        note="Uncased models with pooler and span head; TinyBert with six layers.",
    )


def parameters_of_roberta() -> AuditItem:
    """Table 1's parameters of BERT against RoBERTa's."""
    return AuditItem(
        name="parameters_of_roberta",
        statement="What Table 1 gives as BERT's parameters are RoBERTa's, within 1%",
        whose="audit",
        sources=("Table 1",),
        unit="millions",
        checks=(
            _parameters(f"{LARGE.model} as RoBERTa-large", LARGE.parameters, ROBERTA_LARGE),
            _parameters(f"{BASE.model} as RoBERTa-base", BASE.parameters, ROBERTA_BASE),
        ),
        note="RoBERTa's vocabulary is larger; the layers are the same.",
    )


def _squad1(row: DistilledRow) -> float:
    """The lowest of the cited F1 on SQuAD 1.1, which makes the gap there the widest."""
    cited = (row.squad1_f1_a, row.squad1_f1_b, row.squad1_f1_c)
    return min(f1 for f1 in cited if f1 is not None)


def _squad2(row: DistilledRow) -> float:
    (f1,) = (f1 for f1 in (row.squad2_f1, row.squad2_f1_a) if f1 is not None)
    return f1


def gaps() -> AuditItem:
    """The small models' shortfalls on the harder tasks against that on SQuAD 1.1."""
    checks = []
    for row in DISTILLED:
        easy = _squad1(LARGE) - _squad1(row)
        hard = {
            "SQuAD 2.0": _squad2(LARGE) - _squad2(row),
            "NQ": LARGE.nq_short_f1 - row.nq_short_f1,
        }
        checks += [
            Check(
                label=f"{row.model}, {task} against SQuAD 1.1",
                relation="at least",
                published=easy,
                computed=gap,
            )
            for task, gap in hard.items()
        ]
    return AuditItem(
        name="gaps",
        statement="Small models fall further behind BERT-large on SQuAD 2.0 and NQ than on 1.1",
        whose="paper",
        sources=("Table 1",),
        unit="F1 points",
        checks=tuple(checks),
        note="Of two cited F1 on SQuAD 1.1 the lower one is taken.",
    )


def bert_large_on_nq() -> AuditItem:
    """The unpruned BERT-large of Table 1 and of Table 3."""
    return AuditItem(
        name="bert_large_on_nq",
        statement="BERT-large has one short-answer F1 on NQ",
        whose="audit",
        sources=("Table 1", "Table 3"),
        unit="F1 points",
        checks=(
            Check(
                label="Table 1 against Table 3",
                published=LARGE.nq_short_f1,
                computed=TABLE_3.rows[0].short_f1,
                tolerance=0.05,
            ),
        ),
        note="Two trainings, presumably: the paper does not say where Table 1's is from.",
    )


def roberta_lead() -> AuditItem:
    """RoBERTa-large over BERT-large on NQ, by either of BERT-large's numbers."""
    return AuditItem(
        name="roberta_lead",
        statement="RoBERTa-large is over 4 F1 points better than BERT-large on NQ",
        whose="paper",
        sources=("Section 4.3.2", "Table 1", "Table 3", "Table 4"),
        unit="F1 points",
        checks=tuple(
            Check(
                label=f"over BERT-large of {table}",
                relation="at least",
                published=TEXT["roberta_lead_above"].value,
                computed=TABLE_4.rows[0].short_f1 - bert,
            )
            for table, bert in (
                ("Table 3", TABLE_3.rows[0].short_f1),
                ("Table 1", LARGE.nq_short_f1),
            )
        ),
    )


def transfer_against_small() -> AuditItem:
    """Pruned BERT-large on NQ, its gates from SQuAD, against models small from the start."""
    once, twice = TABLE_3.rows[1:]
    distilbert = DISTILLED[0]
    pairs = ((once, BASE), (twice, distilbert))
    return AuditItem(
        name="transfer_against_small",
        statement="BERT-large pruned on SQuAD stays above small models on NQ",
        whose="audit",
        sources=("Table 1", "Table 3"),
        unit="F1 points",
        checks=tuple(
            Check(
                label=f"{pruned.model} against {small.model}",
                relation="at least",
                published=small.nq_short_f1,
                computed=pruned.short_f1,
            )
            for pruned, small in pairs
        ),
        note="Not strictly comparable: the BERT-large of the two tables differ too.",
    )


def text_and_tables() -> AuditItem:
    """Numbers that stand both in the text and in a table."""
    distilbert, tinybert = DISTILLED
    printed = {
        "large_f1": TABLE_2.rows[0].f1,
        "bert_nq_short_f1": TABLE_3.rows[0].short_f1,
        "roberta_nq_short_f1": TABLE_4.rows[0].short_f1,
        "distilbert_nq_short_f1": distilbert.nq_short_f1,
        "tinybert_nq_short_f1": tinybert.nq_short_f1,
    }
    return AuditItem(
        name="text_and_tables",
        statement="The text repeats the tables' numbers",
        whose="audit",
        sources=("Section 4.2.1", "Section 4.3.2", "Section 4.3.3", "Tables 1 to 4"),
        unit="F1 points",
        checks=tuple(
            Check(label=TEXT[name].words or name, published=value, computed=TEXT[name].value)
            for name, value in printed.items()
        ),
    )
