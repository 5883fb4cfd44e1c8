"""Model folders damaged by accident or on purpose: each mutation is a small function of a folder.

`STOCK` and `PRUNED` name them, with a part of the error that `load_model` gives. They need a folder
that `tests.models.tiny` saved: a stock BERT of 3 layers, or a pruned one.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHT = "bert.encoder.layer.2.output.dense.weight"
INDEX = "model.safetensors.index.json"

Mutation = Callable[[Path], None]


def edit_config(**changes: Any) -> Mutation:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return edit


def edit_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Mutation:
    def edit(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return edit


def edit_topology(*, both: bool = True, **changes: Any) -> Mutation:
    """Edit topology.json and, if `both`, the configuration to agree with it."""

    def edit(folder: Path) -> None:
        topology = {**json.loads((folder / "topology.json").read_text()), **changes}
        (folder / "topology.json").write_text(json.dumps(topology))
        if both:
            edit_config(topology=topology)(folder)

    return edit


def write(name: str, content: bytes) -> Mutation:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return edit


def remove(name: str) -> Mutation:
    return lambda folder: (folder / name).unlink()


def cut(name: str, n_bytes: int) -> Mutation:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-n_bytes])

    return edit


def only_a_pickle(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def a_pickle_and_other_tensors(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    only_a_pickle(folder)


def set_value(value: float) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: weights[WEIGHT].view(-1)[5:6].fill_(value)


def narrow(weights: dict[str, torch.Tensor]) -> None:
    weights[WEIGHT] = weights[WEIGHT][:, :3].contiguous()


DAMAGE: dict[str, tuple[Mutation, str]] = {
    "no config": (remove("config.json"), "config.json is missing"),
    "config not JSON": (write("config.json", b"{'a': 1}"), "config.json: not valid JSON"),
    "config cut": (cut("config.json", 20), "config.json: not valid JSON"),
    "config binary": (write("config.json", b"\xff\xfe\x00"), "config.json: not valid JSON"),
    "config a list": (write("config.json", b"[]"), "config.json: not a JSON object"),
    "config empty": (write("config.json", b"{}"), "model_type"),
    "unknown type": (edit_config(model_type="foo"), "'foo' is not supported; .*bert"),
    "unsupported": (
        edit_config(model_type="albert"),
        "'albert' is not supported, as its layers share .*; .*bert",
    ),
    "text for a number": (edit_config(num_hidden_layers="three"), "num_hidden_layers"),
    "no heads": (edit_config(num_attention_heads=0), "config.json"),
    "no layers": (edit_config(num_hidden_layers=0), "n_layers"),
    "vocabulary": (edit_config(vocab_size=90), r"embeddings.weight: \[80, .*needs \[90"),
    "truncated": (cut("model.safetensors", 1000), "cannot be loaded: .*incomplete"),
    "weights empty": (write("model.safetensors", b""), "cannot be loaded: .*header"),
    "weights garbage": (write("model.safetensors", bytes(range(256)) * 9), "cannot be loaded"),
    "missing tensor": (
        edit_weights(lambda weights: weights.pop(WEIGHT)),
        f"1 weights are missing, the first {WEIGHT}",
    ),
    "half a head": (
        edit_weights(lambda weights: weights.pop("qa_outputs.bias")),
        "1 weights are missing, the first qa_outputs.bias",
    ),
    "no head": (
        edit_weights(lambda weights: [weights.pop(f"qa_outputs.{n}") for n in ("weight", "bias")]),
        "2 weights are missing, the first qa_outputs.bias",
    ),
    "extra tensor": (
        edit_weights(lambda weights: weights.update(extra=torch.ones(2))),
        "unexpected weights, the first extra",
    ),
    "NaN": (edit_weights(set_value(float("nan"))), f"{WEIGHT} holds values that are not finite"),
    "infinite": (edit_weights(set_value(float("inf"))), f"{WEIGHT} holds values that are not"),
    "wrong shape": (edit_weights(narrow), rf"1 weights of a wrong shape, .*{WEIGHT}: \[\d+, 3\]"),
    "no weights": (remove("model.safetensors"), "no model.safetensors"),
    "only a pickle": (only_a_pickle, "pickles and are never loaded"),
    "a pickle, other tensors": (a_pickle_and_other_tensors, "no model.safetensors; .*pickles"),
    "no tokenizer": (remove("tokenizer.json"), "tokenizer.json is missing"),
    "tokenizer not JSON": (write("tokenizer.json", b"{"), "the tokenizer cannot be loaded"),
}
STOCK_DAMAGE: dict[str, tuple[Mutation, str]] = {
    "heads": (
        edit_config(num_attention_heads=3),
        "not a multiple of the number of",
    ),
    "hidden size": (edit_config(hidden_size=16), r"wrong shape.*\[32\].* needs \[16\]"),
    "width": (edit_config(intermediate_size=21), r"9 weights of a wrong shape.*\[22\].*\[21\]"),
    "more layers": (edit_config(num_hidden_layers=4), "16 weights are missing, .*layer.3"),
    "fewer layers": (edit_config(num_hidden_layers=2), "unexpected weights, .*layer.2"),
}
PRUNED_DAMAGE: dict[str, tuple[Mutation, str]] = {
    "no topology": (remove("topology.json"), "topology.json is missing"),
    "topology not JSON": (cut("topology.json", 5), "topology.json: not valid JSON: .*line 20"),
    "topology edited": (edit_topology(both=False, emb="0-31"), "topology.json and .* differ"),
    "config without it": (edit_config(topology=None), "config.json holds no topology"),
    "topology a text": (edit_config(topology="all"), "malformed topology"),
    "one layer": (edit_topology(attn=["0-3"]), "attn lists 1 layers, the shape has 3"),
    "head outside": (edit_topology(attn=["0-3", "", "4"]), "index 4 is outside of a size of 4"),
    "reversed": (edit_topology(ff=["5-2", "", ""]), "not in ascending order"),
    "wider": (edit_topology(ff=["0-21"] * 3), "missing|wrong shape"),
    "no embedding": (edit_topology(emb=""), "no embedding dimension is left"),
    "number": (edit_topology(emb=3), "malformed topology"),
    "of another shape": (
        edit_topology(
            shape={
                "n_layers": 3,
                "n_heads": 8,
                "head_size": 4,
                "d_intermediate": 22,
                "d_embedding": 32,
            }
        ),
        "was made for a model of 3 layers of 8 heads of size 4",
    ),
    "head count": (edit_config(num_attention_heads=8), "was made for a model of 3 layers of 4"),
    "fewer layers": (edit_config(num_hidden_layers=2), "was made for a model of 3 layers"),
}


# --- files that are not what they seem


class Explosive:
    """A pickle that makes the folder `$EXPLODED` when it is opened."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["EXPLODED"],)


def fifo(name: str) -> Mutation:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).parent.mkdir(exist_ok=True)
        os.mkfifo(folder / name)

    return edit


def moved_outside(name: str) -> Mutation:
    """A link to the file, which now lies beside the folder."""

    def edit(folder: Path) -> None:
        outside = folder.with_name(f"outside-{name}")
        shutil.move(folder / name, outside)
        (folder / name).symlink_to(outside)

    return edit


def link(name: str, target: str) -> Mutation:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return edit


def directory(name: str) -> Mutation:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return edit


def sparse(name: str, n_bytes: int = 2**33) -> Mutation:
    def edit(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(n_bytes)

    return edit


def nested(name: str) -> Mutation:
    return write(name, b'{"a":' + b"[" * 10**5 + b"]" * 10**5 + b"}")


def pickled(name: str) -> Mutation:
    return lambda folder: write(name, pickle.dumps(Explosive()))(folder)


def indexed(file: Any, *, keep: bool = False) -> Mutation:
    """Weights that an index names: a pickle, tensors outside of the folder, or nonsense."""

    def edit(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        shutil.copy(folder / "model.safetensors", folder.with_name("outside.safetensors"))
        if not keep:
            (folder / "model.safetensors").unlink()
        pickled("evil.bin")(folder)
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, file)}
        (folder / INDEX).write_text(json.dumps(index))

    return edit


def edit_json(name: str, **changes: Any) -> Mutation:
    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **changes}))

    return edit


def many_digits(key: str) -> Mutation:
    def edit(folder: Path) -> None:
        text = (folder / "config.json").read_text().rstrip().removesuffix("}")
        (folder / "config.json").write_text(f'{text}, "{key}": {"9" * 5000}}}')

    return edit


def header(content: bytes, length: int | None = None) -> Mutation:
    """A safetensors file of a header only."""
    size = struct.pack("<Q", len(content) if length is None else length)
    return write("model.safetensors", size + content)


def tokens_beyond(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["zzz"] = 10**6
    (folder / "tokenizer.json").write_text(json.dumps(content))


def without_padding(folder: Path) -> None:
    edit_json("tokenizer_config.json", pad_token=None)(folder)


def three_outputs(weights: dict[str, torch.Tensor]) -> None:
    for name in ("qa_outputs.weight", "qa_outputs.bias"):
        weights[name] = torch.cat([weights[name], weights[name][:1]])


HUGE_HEADER = b'{"x":{"dtype":"F32","shape":[4000000000],"data_offsets":[0,16000000000]}}'

DAMAGE |= {
    **{
        f"{kind} {name}": (make(name), f"{name}: {message}")
        for kind, make, message in (
            ("fifo", fifo, "not a regular file"),
            ("directory", directory, "not a regular file"),
            ("link out", moved_outside, "a link to .*, outside of the model's folder"),
            ("device", lambda name: link(name, "/dev/zero"), "not a regular file"),
            ("dangling", lambda name: link(name, "nowhere"), "a link that leads nowhere"),
            ("loop", lambda name: link(name, name), "a link that leads nowhere"),
        )
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    },
    "fifo special_tokens_map": (fifo("special_tokens_map.json"), "not a regular file"),
    "fifo chat_template": (fifo("chat_template.jinja"), "not a regular file"),
    "fifo another template": (fifo("additional_chat_templates/a.jinja"), "not a regular file"),
    "fifo index": (fifo(INDEX), "not a regular file"),
    **{f"nested {name}": (nested(name), f"{name}: not valid JSON: nested too deeply")
       for name in ("config.json", "tokenizer_config.json", "added_tokens.json")},
    "nested tokenizer.json": (nested("tokenizer.json"), "the tokenizer cannot be loaded"),
    "sparse config.json": (sparse("config.json"), "bytes, more than the"),
    "sparse tokenizer_config.json": (sparse("tokenizer_config.json"), "bytes, more than the"),
    "sparse tokenizer.json": (sparse("tokenizer.json"), "bytes, more than the"),
    "index of a pickle": (indexed("evil.bin"), "names 'evil.bin'; only .safetensors"),
    "index outside": (indexed("../outside.safetensors"), "only .safetensors files of the same"),
    "index absolute": (indexed("/etc/passwd"), "only .safetensors files of the same"),
    "index of numbers": (indexed(7), "names '7'; only .safetensors"),
    "index of itself": (indexed(INDEX), "only .safetensors"),
    "index not a map": (write(INDEX, b"[]"), "not a JSON object"),
    "adapter": (write("adapter_config.json", b"{}"), "holds an adapter .* merge it"),
    "quantised": (edit_config(quantization_config={"bits": 4}), "quantization_config is not"),
    "weights elsewhere": (edit_config(transformers_weights="x"), "transformers_weights is not"),
    "5,000 digits": (many_digits("hidden_size"), "config.json: not valid JSON: .*4300 digits"),
    "10**6 layers": (edit_config(num_hidden_layers=10**6), "n_layers: .*less than .* 1000"),
    "a decoder": (edit_config(is_decoder=True), "is_decoder: it reads from left to right"),
    "10**9 activations": (edit_config(intermediate_size=10**9), "more than 10000000 heads or"),
    "10**9 heads": (edit_config(num_attention_heads=10**9), "config.json"),
    "10**9 tokens": (edit_config(vocab_size=10**9), r"of \d{11} weights, .* files hold \d+"),
    "10**9 positions": (edit_config(max_position_embeddings=10**9), r"of \d{11} weights"),
    "10**30 tokens": (edit_config(vocab_size=10**30), "cannot be loaded"),
    "-1 tokens": (edit_config(vocab_size=-1), "cannot be loaded"),
    "unknown activation": (edit_config(hidden_act="foo"), "cannot be loaded: .*foo"),
    "dropout of 5": (edit_config(hidden_dropout_prob=5.0), "cannot be loaded: .*dropout"),
    "padding outside": (edit_config(pad_token_id=10**9), "cannot be loaded"),
    "header of 2**62 bytes": (header(b"", 2**62), "cannot be loaded: .*[Hh]eader"),
    "header of absent data": (header(HUGE_HEADER), "cannot be loaded"),
    "tokens beyond": (tokens_beyond, "has ids up to 1000000, and the model embeddings for 80"),
    "no padding token": (without_padding, "the tokenizer has no pad token"),
    "no unknown token": (
        edit_json("tokenizer.json", model={"type": "Unigram", "unk_id": None, "vocab": []}),
        "tokenizer cannot be loaded: .*(unknown|UNK)",
    ),
    "panic": (
        edit_json("tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": ""}),
        "tokenizer cannot be loaded: .*[Pp]recompiled",
    ),
    "tokenizer class": (edit_json("tokenizer_config.json", tokenizer_class=7), "tokenizer cannot"),
}  # fmt: skip
STOCK_DAMAGE |= {
    "three outputs": (
        edit_weights(three_outputs),
        r"2 weights of a wrong shape, .*qa_outputs.bias: \[3\].*needs \[2\].*2 outputs",
    ),
}
_ABSURD = {"n_layers": 3, "n_heads": 4, "head_size": 8, "d_intermediate": 10**9, "d_embedding": 32}
PRUNED_DAMAGE |= {
    "fifo topology.json": (fifo("topology.json"), "topology.json: not a regular file"),
    "link out topology.json": (moved_outside("topology.json"), "outside of the model's folder"),
    "nested topology.json": (nested("topology.json"), "nested too deeply"),
    "0-999999999": (edit_topology(ff=["0-999999999"] * 3), "outside of a size of 22"),
    "absurd shape": (edit_topology(shape=_ABSURD, ff=["0-999999999"] * 3), "more than 10000000"),
    "absurd shape, one file": (edit_topology(both=False, shape=_ABSURD), "more than 10000000"),
    "5,000 digits in a range": (edit_topology(emb=f"0-{'9' * 5000}"), "malformed topology"),
    "ranges without end": (edit_topology(emb="0 " * 10**6), "not in ascending order"),
}
STOCK, PRUNED = {**DAMAGE, **STOCK_DAMAGE}, {**DAMAGE, **PRUNED_DAMAGE}

HARMLESS: dict[str, Mutation] = {
    "unknown dtype": edit_config(dtype="float99"),
    "unknown torch_dtype": edit_config(torch_dtype=7),
    "a kernel of the Hub": edit_config(attn_implementation="someone/kernel"),
    "a kernel, once more": edit_config(_attn_implementation="someone/kernel"),
    "10**9 labels": edit_config(num_labels=10**9),
    "labels by name": edit_config(id2label={"0": "A", "1": "B", "2": "C"}),
    "answers as tuples": edit_config(return_dict=False),
    "all that there is": edit_config(output_hidden_states=True, output_attentions=True),
    "a class by number": edit_config(architectures=[7]),
    "a number of classes": edit_config(architectures=7),
    "chunks": edit_config(chunk_size_feed_forward=7),
    "remote code": edit_config(auto_map={"AutoModelForQuestionAnswering": "evil.Model"}),
    "a pickle beside": pickled("pytorch_model.bin"),
    "an index beside": indexed("evil.bin", keep=True),
    "a FIFO that nothing opens": fifo("notes.md"),
}
"""What changes nothing: the model is the same, and no code runs."""
