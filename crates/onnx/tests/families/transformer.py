"""Networks of the package transformers, with two layers of 32 features, by each of its two ways to write attention."""

import torch
import transformers
from torch import nn

from network import Network, randomised

TOKENS = [dict(batch=2, length=7), dict(batch=1, length=5), dict(batch=3, length=12)]
PAST = [dict(batch=2, length=3, past=4), dict(batch=1, length=1, past=9), dict(batch=3, length=2, past=5)]
PAIRS = [dict(batch=2, source=7, target=5), dict(batch=1, source=4, target=1), dict(batch=3, source=6, target=9)]
PICTURES = [dict(batch=2, height=32, width=48), dict(batch=1, height=64, width=48), dict(batch=3, height=40, width=56)]

NAMES = ["input_ids", "attention_mask"]
TEXT = {"input_ids": ("batch", "length"), "attention_mask": ("batch", "length")}
PAIR = {"input_ids": ("batch", "source"), "attention_mask": ("batch", "source"), "decoder_input_ids": ("batch", "target")}
BESIDE = {"input_ids": ("batch", "target"), "encoder_hidden_states": ("batch", "source", None), "encoder_attention_mask": ("batch", "source")}
PICTURE = {"pixel_values": ("batch", None, "height", "width")}


class Call(nn.Module):
    """By tensors alone: in by position, out as a tuple of some fields."""

    def __init__(self, inner, names, field, fixed):
        super().__init__()
        self.inner, self.names, self.field, self.fixed = inner, names, field, fixed

    def forward(self, *given):
        out = self.inner(**dict(zip(self.names, given)), **self.fixed, return_dict=True)
        return out[self.field]


class CallWithPast(nn.Module):
    """A decoder over a cache: past keys and values in, those and the new ones out."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, ids, mask, *past):
        cache = transformers.DynamicCache()
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        out = self.inner(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, return_dict=True)
        return (out.logits, *(part for layer in out.past_key_values.layers for part in (layer.keys, layer.values)))


def ids(batch, length):
    return torch.randint(5, 90, (batch, length))


def mask(batch, length):
    """Every second row is padded on the right by two."""
    out = torch.ones(batch, length, dtype=torch.int64)
    if length > 2:
        out[1::2, -2:] = 0
    return out


def text(sizes):
    return {"input_ids": ids(sizes["batch"], sizes["length"]), "attention_mask": mask(sizes["batch"], sizes["length"])}


def typed(sizes):
    return text(sizes) | {"token_type_ids": torch.randint(0, 2, (sizes["batch"], sizes["length"]))}


def unmasked(sizes):
    return {"input_ids": ids(sizes["batch"], sizes["length"])}


def pair(sizes):
    batch, source = sizes["batch"], sizes["source"]
    return {"input_ids": ids(batch, source), "attention_mask": mask(batch, source), "decoder_input_ids": ids(batch, sizes["target"])}


def beside(sizes):
    batch, source = sizes["batch"], sizes["source"]
    return {
        "input_ids": ids(batch, sizes["target"]),
        "encoder_hidden_states": torch.randn(batch, source, 32),
        "encoder_attention_mask": mask(batch, source),
    }


def picture(sizes):
    return {"pixel_values": torch.randn(sizes["batch"], 3, sizes["height"], sizes["width"])}


def squares(sizes):
    return picture(sizes | {"height": 32, "width": 32})


def past(heads):
    def inputs(sizes):
        batch, length = sizes["batch"], sizes["past"]
        made = {"input_ids": ids(batch, sizes["length"]), "attention_mask": mask(batch, length + sizes["length"]).flip(1)}
        return made | {name: torch.randn(batch, heads, length, 8) for name in CACHE}

    return inputs


CACHE = [f"past.{layer}.{part}" for layer in range(2) for part in ("key", "value")]
WITH_PAST = {"input_ids": ("batch", "length"), "attention_mask": ("batch", "total")} | {name: ("batch", None, "past", None) for name in CACHE}

WIDTHS = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
PLAIN = dict(vocab_size=99, max_position_embeddings=64)
PAIRED = PLAIN | dict(d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4)
CONFIGURATIONS = {
    "Bert": WIDTHS | PLAIN,
    "Roberta": WIDTHS | PLAIN,
    "DistilBert": PLAIN | dict(dim=32, n_layers=2, n_heads=4, hidden_dim=48),
    "GPT2": dict(vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "Llama": WIDTHS | PLAIN | dict(num_key_value_heads=2),
    "T5": dict(vocab_size=99, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu", dropout_rate=0.0),
    "Bart": PAIRED | dict(encoder_ffn_dim=48, decoder_ffn_dim=48),
    "Marian": PAIRED | dict(encoder_ffn_dim=48, decoder_ffn_dim=48, pad_token_id=1, decoder_start_token_id=1, scale_embedding=True),
    "ViT": WIDTHS | dict(image_size=32, patch_size=8),
}
STATE, LOGITS = "last_hidden_state", "logits"
STEPLESS = dict(use_cache=False)

# Family, stem of the configuration, class, part of it, what the name ends with; inputs, their axes and sizes, the result, what else is given.
ROWS = [
    ("BERT", "Bert", "BertModel", None, "", typed, TEXT | {"token_type_ids": ("batch", "length")}, TOKENS, STATE, {}),
    ("BERT", "Bert", "BertForSequenceClassification", None, "_classify", text, TEXT, TOKENS, LOGITS, {}),
    ("RoBERTa", "Roberta", "RobertaModel", None, "", text, TEXT, TOKENS, STATE, {}),
    ("RoBERTa", "Roberta", "RobertaForMaskedLM", None, "_masked", text, TEXT, TOKENS, LOGITS, {}),
    ("DistilBERT", "DistilBert", "DistilBertModel", None, "", text, TEXT, TOKENS, STATE, {}),
    ("GPT-2", "GPT2", "GPT2LMHeadModel", None, "", text, TEXT, TOKENS, LOGITS, STEPLESS),
    ("GPT-2", "GPT2", "GPT2LMHeadModel", None, "_unmasked", unmasked, {"input_ids": ("batch", "length")}, TOKENS, LOGITS, STEPLESS),
    ("GPT-2", "GPT2", "GPT2LMHeadModel", None, "_past", past(4), WITH_PAST, PAST, None, {}),
    ("LLaMA", "Llama", "LlamaForCausalLM", None, "", text, TEXT, TOKENS, LOGITS, STEPLESS),
    ("LLaMA", "Llama", "LlamaForCausalLM", None, "_past", past(2), WITH_PAST, PAST, None, {}),
    ("ViT", "ViT", "ViTModel", None, "", squares, {"pixel_values": ("batch", None, None, None)}, TOKENS, STATE, {}),
    ("ViT", "ViT", "ViTForImageClassification", None, "_classify", squares, {"pixel_values": ("batch", None, None, None)}, TOKENS, LOGITS, {}),
    ("ViT", "ViT", "ViTModel", None, "_any", picture, PICTURE, PICTURES, STATE, dict(interpolate_pos_encoding=True)),
]
for family, stem, head in [
    ("T5", "T5", "T5ForConditionalGeneration"), ("BART", "Bart", "BartForConditionalGeneration"), ("Marian", "Marian", "MarianMTModel")
]:
    ROWS += [
        (family, stem, head, None, "", pair, PAIR, PAIRS, LOGITS, STEPLESS),
        (family, stem, f"{stem}Model", "encoder", "_encoder", text, TEXT, TOKENS, STATE, {}),
        (family, stem, f"{stem}Model", "decoder", "_decoder", beside, BESIDE, PAIRS, STATE, STEPLESS),
    ]


def builder(stem, head, part, axes, field, fixed, attention):
    def build():
        config = getattr(transformers, f"{stem}Config")(**CONFIGURATIONS[stem])
        config._attn_implementation = attention
        model = getattr(transformers, head)(config)
        model = randomised(getattr(model, f"get_{part}")() if part else model)
        return Call(model, list(axes), field, fixed) if field else CallWithPast(model)

    return build


def networks():
    for attention, versions in (("eager", (14, 17, 13)), ("sdpa", (14, 17, 18))):
        for family, stem, head, part, tail, inputs, axes, sizes, field, fixed in ROWS:
            # T5 adds its own biases to the scores, and knows one way alone.
            if stem == "T5" and attention == "sdpa":
                continue
            build = builder(stem, head, part, axes, field, fixed, attention)
            yield Network(family, f"{stem.lower()}{tail}_{attention}", build, inputs, axes, sizes, versions)
