"""The card of a compressed model: README.md with metadata for the Hub."""

from __future__ import annotations

from huggingface_hub import ModelCardData
from jinja2 import Environment, StrictUndefined

from qaprune_lib.models import QuestionAnsweringModel
from qaprune_lib.pruning.report import Compression

CARD = """---
{{ metadata }}
---
# A smaller question-answering model

{{ "%.2f" % times[1].speedup }} times as fast as the model that it was pruned from ({{ "%.2f" %
times[1].speedup_low }} to {{ "%.2f" % times[1].speedup_high }} in {{ times[1].rounds | length }} \
rounds), with an F1 of {{ "%.1f" % after.f1 }} where that has {{ "%.1f" % before.f1 }}.

| | before | after |
| --- | ---: | ---: |
{% for name, one, other in rows -%}
| {{ name }} | {{ one }} | {{ other }} |
{% endfor %}
Scores are on {{ after.total }} questions of "{{ scored_on }}"{% if scored_on == "heldout" %}, which
the steps were chosen on{% endif %}. "No answer" is said where the null score exceeds that of the
best span by more than {{ "%.3f" % steps[chosen].threshold }}. Times are of decoding
{{ times[1].windows }} windows in batches of {{ times[1].batch_size }} on {{ times[1].device }},
on {{ times[1].threads }} thread{{ "s" if times[1].threads != 1 }}.

{% if served %}
## How to serve it

The folder `onnx` holds the model for other software. On a CPU, in batches of
{{ times[1].batch_size }}; F1 is on held-out questions, times are over the unpruned model in torch:

| | F1 | ms a window | times as fast | MiB |
| --- | ---: | ---: | ---: | ---: |
{% for way in served -%}
| {{ way.way }} | {{ "%.1f" % way.f1 }} | {{ "%.1f" % way.milliseconds }} | \
{{ "%.2f" % way.speedup }} ({{ "%.2f" % way.speedup_low }} to {{ "%.2f" % way.speedup_high }}) | \
{{ "%.1f" % way.mib }} |
{% endfor %}{% endif %}
## How it was made

`qaprune_lib.compress`, target {{ target }}, seed {{ seed }}, slices scored on
{{ scored }} questions, {{ "%.0f" % seconds }} seconds.

| step | F1, held-out | heads removed (%) | activations removed (%) | seconds |
| --- | ---: | ---: | ---: | ---: |
{% for step in steps -%}
| {{ step.what }}{{ " (chosen)" if loop.index0 == chosen }} | {{ "%.1f" % step.f1 }} | \
{{ "%.1f" % step.attn }} | {{ "%.1f" % step.ff }} | {{ "%.0f" % step.seconds }} |
{% endfor %}
Questions, by SHA-256: {% for name, digest in questions.items() -%}
{{ name }} {{ digest[:16] }}{{ ", " if not loop.last }}{% endfor %}.

## How to use it

```python
import qaprune_lib as qp

model = qp.load_model("THIS FOLDER")
print(qp.ask(model, "Who wrote it?", "Ada wrote it in 1843."))
```
"""


def model_card(model: QuestionAnsweringModel, report: Compression) -> str:
    """Text of README.md, as the Hub reads it."""
    base = getattr(model.config, "_name_or_path", "") or None
    metadata = ModelCardData(
        pipeline_tag="question-answering",
        library_name="qaprune",
        base_model=base if base and not base.startswith(("/", ".")) else None,
        metrics=["f1", "exact_match"],
        tags=["structured-pruning", model.config.model_type.removeprefix("pruned_")],
    )
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(CARD).render(
        metadata=metadata.to_yaml().strip(), rows=report.table(), **dict(report)
    )
